"""The command line: parses, calls, and turns refusals into messages and exit codes.

Nothing heavy is imported at its start: each verb imports what it needs.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.errors import SlipwayError, UsageError
from pipelines.settings import Settings

if TYPE_CHECKING:
    from pipelines.client import ApiClient

app = typer.Typer(
    name="slipway",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Takes a model version from training to production and back.",
)
policy_app = typer.Typer(no_args_is_help=True, help="Show or change the policy in force.")
app.add_typer(policy_app, name="policy")

As = Annotated[str, typer.Option("--as", help="Whose token to use.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Ask and return at once.")]
Override = Annotated[str, typer.Option(help="Why named gates may be passed over.")]
Gates = Annotated[str, typer.Option(help="Which gates, separated by commas.")]
Version = Annotated[str, typer.Option(help="A registered version's number.")]


def main() -> None:
    """Run the command line and exit with the code of what happened."""
    as_json = "--json" in sys.argv
    try:
        # Outside of its standalone mode Click returns the code of an Exit instead of raising it.
        sys.exit(app(standalone_mode=False) or 0)
    except SlipwayError as error:
        _print_refusal(error, as_json=as_json)
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        tell('detached; it goes on without you: "slipway status"')
        sys.exit(130)
    except Exception as error:
        usage = _as_usage(error)
        if usage is None:
            raise
        _print_refusal(usage, as_json=as_json)
        sys.exit(2)


def tell(line: str) -> None:
    """Print progress for people, on standard error."""
    print(line, file=sys.stderr, flush=True)


def _as_usage(error: Exception) -> UsageError | None:
    """Return the refusal for a wrong command line, which Typer raises as Click's own error."""
    message = getattr(error, "format_message", None)
    return UsageError(message(), next="slipway --help") if message else None


def _print_refusal(error: SlipwayError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": error.as_dict()}))
        return
    # A gate's or a person's no is a result; every other refusal is about the asking.
    no = error.code in ("gate_failed", "inconclusive", "gate_error")
    print(error.message, file=sys.stdout if no else sys.stderr)
    if error.next:
        tell(f"next: {error.next}")


def _settings() -> Settings:
    return Settings.from_environ(os.environ)


def _client(person: str) -> "ApiClient":
    from pipelines.api.auth import read_tokens
    from pipelines.client import ApiClient

    settings = _settings()
    token = os.environ.get("SLIPWAY_TOKEN")
    if not token:
        tokens = read_tokens(settings.tokens_file)
        if person not in tokens:
            raise UsageError(f"no token for {person[:40]!r}", next="one of: " + ", ".join(tokens))
        token = tokens[person]
    return ApiClient(settings, token)


def _result(body: dict[str, Any], text: str, *, as_json: bool) -> None:
    print(json.dumps(body) if as_json else text)


@contextmanager
def _detachable(what: str) -> Iterator[None]:
    """Let Ctrl-C end the waiting, not the work."""
    try:
        yield
    except KeyboardInterrupt:
        tell(f'detached from {what}; it goes on: "slipway status"')
        raise typer.Exit(130) from None


def _version_body(version: str, override: str, gates: str) -> dict[str, Any]:
    body: dict[str, Any] = {"version": version or None}
    if override or gates:
        body |= {"override_reason": override, "override_gates": [g for g in gates.split(",") if g]}
    return body


@app.command()
def up() -> None:
    """Start everything and wait until it answers."""
    from pipelines.operate import bring_up

    bring_up(_settings(), os.environ, tell)


@app.command()
def down() -> None:
    """Stop what `up` started, and keep all state."""
    from pipelines.bootstrap import open_stack

    open_stack(_settings(), os.environ).down(tell)


@app.command()
def destroy(confirm: Annotated[str, typer.Option(help="yes")] = "") -> None:
    """Stop everything and remove all state for ever."""
    from pipelines.operate import destroy_home

    if confirm != "yes":
        raise UsageError("destroy removes all versions, releases and the audit trail", next="CONFIRM=yes")
    destroy_home(_settings(), os.environ, tell)


@app.command()
def logs(lines: Annotated[int, typer.Option(min=1)] = 20) -> None:
    """Show the last lines that every process wrote."""
    from pipelines.operate import tail_logs

    for name, tail in tail_logs(_settings().logs, lines).items():
        print(f"== {name}")
        print("\n".join(tail))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the invariants; exit 3 if one is broken, 4 if one can't be measured."""
    from pipelines.operate import run_doctor

    invariants, interrupted = run_doctor(_settings())
    body = {"invariants": [vars(i) for i in invariants], "open_intents": [vars(e) for e in interrupted]}
    signs = {True: "ok", False: "BROKEN", None: "unknown"}
    lines = [f"{i.id} {signs[i.holds]:8} {i.detail}" for i in invariants]
    lines += [f"{entry.action} of {entry.subject} was begun at {entry.at} and not ended" for entry in interrupted]
    _result(body, "\n".join(lines), as_json=as_json)
    if any(i.holds is False for i in invariants):
        raise typer.Exit(3)
    if any(i.holds is None for i in invariants):
        raise typer.Exit(4)


@app.command()
def candidate(person: As = "alice") -> None:
    """Train in this working tree, register, and evaluate into staging."""
    from pipelines.operate import train_and_register

    settings = _settings()
    client = _client(person)
    client.get("/status")
    registered = train_and_register(settings, os.environ, tell)
    asked = client.post("/evaluations", {"version": registered["model_version"]})
    with _detachable(asked["id"]):
        client.wait(f"/evaluations/{asked['id']}", tell)
    print(json.dumps(registered))


@app.command("deploy-staging")
def deploy_staging(
    version: Version = "", person: As = "alice", as_json: Json = False, override: Override = "", gates: Gates = ""
) -> None:
    """Evaluate a version (the newest by default) into staging."""
    client = _client(person)
    asked = client.post("/evaluations", _version_body(version, override, gates))
    with _detachable(asked["id"]):
        client.wait(f"/evaluations/{asked['id']}", tell)
    health = _staging_health(_settings())
    text = f"Staged {health['model']} v{health['version']} -> Staging"
    _result({"evaluation_id": asked["id"], **health}, text, as_json=as_json)


@app.command()
def promote(
    version: Version,
    override: Override = "",
    gates: Gates = "",
    no_wait: NoWait = False,
    person: As = "alice",
    as_json: Json = False,
) -> None:
    """Ask for production, and wait for the gates, for another person's yes, and for the release."""
    client = _client(person)
    asked = client.post("/promotions", _version_body(version, override, gates))
    if no_wait:
        print(json.dumps({"promotion_id": asked["promotion_id"]}))
        return
    path = f"/promotions/{asked['id']}"
    with _detachable(asked["id"]):
        waiting = client.wait(path, tell, until=lambda work: work["state"] == "waiting")
        if waiting["state"] == "waiting":
            tell(f"waiting for a yes: make approve VERSION={version} AS=bob")
        told = len(waiting["steps"])
        done = client.wait(path, _after(told))
    archived = f" (archived v{done['archived']})" if done["archived"] else ""
    _result(done, f"Promoted {done['model']} v{version} -> Production{archived}", as_json=as_json)


def _after(count: int) -> Callable[[str], None]:
    """Return a teller that leaves out the first `count` lines, which were told before."""
    left = count

    def tell_rest(line: str) -> None:
        nonlocal left
        if left:
            left -= 1
        else:
            tell(line)

    return tell_rest


@app.command()
def approve(version: Version, person: As = "alice", as_json: Json = False) -> None:
    """Say yes to a version's report; the person who asked can't."""
    _decide(version, person, approved=True, reason="", as_json=as_json)


@app.command()
def reject(
    version: Version,
    reason: Annotated[str, typer.Option(help="Why not.")],
    person: As = "alice",
    as_json: Json = False,
) -> None:
    """Say no to a version's promotion."""
    _decide(version, person, approved=False, reason=reason, as_json=as_json)


def _decide(version: str, person: str, *, approved: bool, reason: str, as_json: bool) -> None:
    """Show the report that is decided on, and decide on exactly that one."""
    client = _client(person)
    found = client.get("/promotions", version=version)["promotions"]
    waiting = [promotion for promotion in found if promotion["state"] == "waiting"]
    body: dict[str, Any] = {"version": version, "approved": approved, "reason": reason}
    if waiting:
        evaluation = client.get(f"/promotions/{waiting[-1]['id']}")["evaluation"]
        for gate in evaluation["report"]["gates"]:
            tell(f"  {gate['name']}: {gate['message']}")
        body["report_digest"] = evaluation["report_digest"]
    decided = client.post("/approvals", body)
    verb = "Approved" if approved else "Rejected"
    text = f"{verb} v{version} as {decided['person']} ({decided['promotion_id']}, report {body.get('report_digest')})"
    _result(decided, text, as_json=as_json)


@app.command()
def rollback(
    env: Annotated[str, typer.Option(help="staging or production")] = "production",
    person: As = "alice",
    as_json: Json = False,
) -> None:
    """Go back to the previous good release."""
    client = _client(person)
    asked = client.post("/rollbacks", {"environment": env})
    with _detachable(asked["id"]):
        done = client.wait(f"/rollbacks/{asked['id']}", tell)
    text = f"Rolled back {done['model']} {env}: v{done['replaced']} -> v{done['version']}"
    _result(done, text, as_json=as_json)


@app.command()
def status(as_json: Json = False, person: As = "alice") -> None:
    """Show what serves, what waits, and what disagrees."""
    from pipelines.client import executor_silence
    from pipelines.tables import status_table

    body = _client(person).get("/status")
    _result(body, "" if as_json else status_table(body), as_json=as_json)
    silence = executor_silence(body)
    if silence:
        tell(silence)


@app.command()
def history(as_json: Json = False, person: As = "alice") -> None:
    """Show who served what when, overrides included."""
    from pipelines.tables import history_table

    body = _client(person).get("/releases")
    _result(body, "" if as_json else history_table(body), as_json=as_json)


@app.command()
def audit(as_json: Json = False, limit: int = 50, person: As = "alice") -> None:
    """Show the last entries of the audit trail."""
    body = _client(person).get("/audit", limit=str(limit))
    lines = [
        f"{e['seq']:5} {e['at']} {e['actor']:9} {e['action']:20} {e['phase']:8} {e['subject']} "
        + json.dumps(e["detail"])
        for e in body["entries"]
    ]
    _result(body, "\n".join(lines), as_json=as_json)


@app.command("audit-verify")
def audit_verify(as_json: Json = False, person: As = "alice") -> None:
    """Verify the audit chain; exit 3 when an entry does not hold."""
    body = _client(person).get("/audit/verification")
    _result(body, f"{'valid' if body['valid'] else 'NOT VALID'}: {body['detail']}", as_json=as_json)
    if not body["valid"]:
        raise typer.Exit(3)


@policy_app.command("apply")
def policy_apply(file: Path, person: As = "alice", as_json: Json = False) -> None:
    """Put a policy file in force."""
    from pipelines.operate import read_policy_file

    client = _client(person)
    asked = client.post("/policy", {"policy": read_policy_file(file)})
    done = client.wait(f"/policy/{asked['id']}", tell)
    _result(done, f"Policy {done['digest']} is in force", as_json=as_json)


@policy_app.command("show")
def policy_show(person: As = "alice") -> None:
    """Print the policy in force as JSON."""
    print(json.dumps(_client(person).get("/policy"), indent=2))


@app.command()
def demo() -> None:
    """Take versions all the way and back, and leave everything running."""
    from pipelines.demo import run_demo

    run_demo(_settings(), os.environ, tell)


@app.command()
def bench(name: Annotated[str, typer.Argument(help="One benchmark, or all.")] = "all") -> None:
    """Measure, and write bench/results/NAME.json."""
    from pipelines.bench import run_bench

    # So that a benchmark that is told to end stops what it started, as it does at Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_bench(name, _settings(), os.environ, tell)


@app.command()
def check() -> None:
    """Check format, lint, types and import contracts of Slipway itself."""
    from pipelines.develop import run_checks

    run_checks()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(context: typer.Context) -> None:
    """Run every test that this machine can, naming what it skips; further words go to pytest."""
    from pipelines.develop import run_tests

    raise typer.Exit(run_tests(context.args, os.environ))


@app.command("lock")
def lock_dependencies() -> None:
    """Resolve all dependencies anew into requirements/."""
    from pipelines.develop import lock

    lock()


@app.command()
def setup() -> None:
    """Make or mend .venv with everything locked."""
    from pipelines.install import main as make_venv

    raise typer.Exit(make_venv())


@app.command(hidden=True)
def api() -> None:
    """Serve the API (started by `up`)."""
    from pipelines.api.server import serve_api

    serve_api(_settings())


@app.command(hidden=True)
def executor() -> None:
    """Carry intents out (started by `up`)."""
    from pipelines.operate import run_executor

    run_executor(_settings(), os.environ)


def _staging_health(settings: Settings) -> dict[str, Any]:
    """Ask staging itself what it serves: a success is not reported on hearsay."""
    from pipelines.operate import read_health

    return read_health(settings.staging_port)


if __name__ == "__main__":
    main()
