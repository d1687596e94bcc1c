"""The verbs that are clients of the API: they ask, wait and show, as one person."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from pipelines.cli.terminal import (
    As,
    Gates,
    Json,
    Model,
    NoWait,
    Override,
    Version,
    detachable,
    open_client,
    print_result,
    read_settings,
    report_progress,
)
from pipelines.domain.release import Environment
from pipelines.domain.texts import one_line
from pipelines.errors import Cancelled, Refused, UsageError

if TYPE_CHECKING:
    from pipelines.settings.settings import Settings

app = typer.Typer()
policy_app = typer.Typer(no_args_is_help=True, help="Show or change the policy in force.")
app.add_typer(policy_app, name="policy")
evalset_app = typer.Typer(
    no_args_is_help=True, help="Add, list and show evaluation sets, and what differs between them."
)
app.add_typer(evalset_app, name="evalset")
Set = Annotated[str, typer.Argument(metavar="SET", help="Its number, its name, or seven digits of it.")]


def _version_body(version: str, override: str, gates: str) -> dict[str, Any]:
    body: dict[str, Any] = {"version": version or None}
    if override or gates:
        body |= {"override_reason": override, "override_gates": [g for g in gates.split(",") if g]}
    return body


@app.command()
def candidate(person: As = "alice", model: Model = "") -> None:
    """Train in the project of a model, register, and evaluate into staging."""
    from pipelines.operator.candidate import train_and_register

    settings = read_settings()
    client = open_client(person, model)
    client.get("/status")
    project = settings.model(model).folder
    registered = train_and_register(settings, os.environ, report_progress, project=project)
    asked = client.post("/evaluations", {"version": registered["model_version"]})
    with detachable(asked["id"]):
        client.wait(f"/evaluations/{asked['id']}", report_progress)
    print(json.dumps(registered))


@app.command("deploy-staging")
def deploy_staging(
    version: Version = "",
    person: As = "alice",
    as_json: Json = False,
    override: Override = "",
    gates: Gates = "",
    model: Model = "",
) -> None:
    """Evaluate a version (the newest by default) into staging."""
    client = open_client(person, model)
    asked = client.post("/evaluations", _version_body(version, override, gates))
    with detachable(asked["id"]):
        client.wait(f"/evaluations/{asked['id']}", report_progress)
    health = _staging_health(read_settings(), model)
    text = f"Staged {health['model']} v{health['version']} -> Staging"
    print_result({"evaluation_id": asked["id"], **health}, text, as_json=as_json)


@app.command()
def cancel(
    evaluation: Annotated[str, typer.Argument(metavar="ID", help="An evaluation, such as e-3.")],
    person: As = "alice",
    as_json: Json = False,
) -> None:
    """End an evaluation before it is done, and the promotion that waits for it."""
    if not evaluation:
        raise UsageError("no evaluation is named to cancel", next='ID=e-3; "make status" shows what is under way')
    path = f"/evaluations/{quote(evaluation, safe='')}"
    client = open_client(person)
    client.post(f"{path}/cancel", {})
    try:
        with detachable(f"the end of {evaluation}"):
            client.wait(path, report_progress)
    except Cancelled:
        print_result({"evaluation_id": evaluation, "cancelled": True}, f"Cancelled {evaluation}", as_json=as_json)
        return
    raise Refused(
        f"{evaluation} was done before it could be cancelled",
        next='"make rollback ENV=staging" takes it out of staging',
    )


@app.command()
def promote(
    version: Version,
    override: Override = "",
    gates: Gates = "",
    no_wait: NoWait = False,
    person: As = "alice",
    as_json: Json = False,
    model: Model = "",
) -> None:
    """Ask for production, and wait for the gates, for another person's yes, and for the release."""
    if not version:
        raise UsageError("no version is named to promote", next='"make promote VERSION=n"; "make versions" lists them')
    client = open_client(person, model)
    asked = client.post("/promotions", _version_body(version, override, gates))
    if no_wait:
        print(json.dumps({"promotion_id": asked["promotion_id"]}))
        return
    path = f"/promotions/{asked['id']}"
    with detachable(asked["id"]):
        waiting = client.wait(path, report_progress, until=lambda work: work["state"] == "waiting")
        if waiting["state"] == "waiting":
            asker = waiting["requested_by"]
            of = f" MODEL={model}" if model else ""
            report_progress(
                f"waiting for the approval of somebody other than {asker}: make approve VERSION={version}{of} AS=name"
            )
        told = len(waiting["steps"])
        done = client.wait(path, _after(told))
    archived = f" (archived v{done['archived']})" if done["archived"] else ""
    print_result(done, f"Promoted {done['model']} v{version} -> Production{archived}", as_json=as_json)


def _after(count: int) -> Callable[[str], None]:
    """Return a teller that leaves out the first `count` lines, which were told before."""
    left = count

    def tell_rest(line: str) -> None:
        nonlocal left
        if left:
            left -= 1
        else:
            report_progress(line)

    return tell_rest


@app.command()
def approve(version: Version, person: As = "alice", as_json: Json = False, model: Model = "") -> None:
    """Say yes to a version's report; the person who asked can't."""
    _decide(version, person, model, approved=True, reason="", as_json=as_json)


@app.command()
def reject(
    version: Version,
    reason: Annotated[str, typer.Option(help="Why not.")],
    person: As = "alice",
    as_json: Json = False,
    model: Model = "",
) -> None:
    """Say no to a version's promotion."""
    if not reason.strip():
        raise UsageError("a rejection needs a reason", next=f'make reject VERSION={version} REASON="why"')
    _decide(version, person, model, approved=False, reason=reason, as_json=as_json)


def _decide(version: str, person: str, model: str, *, approved: bool, reason: str, as_json: bool) -> None:
    """Show the report that is decided on, and decide on exactly that one."""
    if not version:
        raise UsageError("no version is named to decide on", next='VERSION=n; "make status" shows what waits')
    client = open_client(person, model)
    found = client.get("/promotions", version=version)["promotions"]
    waiting = [promotion for promotion in found if promotion["state"] == "waiting"]
    body: dict[str, Any] = {"version": version, "approved": approved, "reason": reason}
    if waiting:
        shown = client.get(f"/promotions/{waiting[-1]['id']}")
        evaluation = shown["evaluation"]
        for gate in evaluation["report"]["gates"]:
            report_progress(f"  {gate['name']}: {gate['message']}")
        report_progress(_standing(waiting[-1], evaluation["report"]))
        for change in shown.get("changed", []):
            report_progress(f"changed since the report was made: {change}")
        body["report_digest"] = evaluation["report_digest"]
    decided = client.post("/approvals", body)
    verb = "Approved" if approved else "Rejected"
    text = f"{verb} v{version} as {decided['person']} ({decided['promotion_id']}, report {body.get('report_digest')})"
    print_result(decided, text, as_json=as_json)


def _standing(promotion: dict[str, Any], report: dict[str, Any]) -> str:
    """Say what is decided on: who asked, what would be replaced, and which gates somebody wants to pass over."""
    replaced = f"in place of v{report['champion']['version']}" if report["champion"] else "where nothing serves yet"
    asked = f"{promotion['requested_by']} asks for v{promotion['version']} in {promotion['environment']} {replaced}"
    if breaking := report.get("breaking"):
        asked += f", BREAKING ITS CLIENTS ({one_line('; '.join(breaking['changes']))}): {breaking['reason']}"
    gates = ", ".join(promotion["override_gates"])
    return f"{asked}, OVERRIDING {gates}: {promotion['override_reason']}" if gates else asked


@app.command()
def rollback(
    env: Annotated[str, typer.Option(help="staging or production")] = "production",
    person: As = "alice",
    as_json: Json = False,
    model: Model = "",
) -> None:
    """Go back to the previous good release."""
    if env not in list(Environment):
        raise UsageError(f"{env[:40]!r} is no environment", next="ENV=staging, or ENV=production")
    client = open_client(person, model)
    asked = client.post("/rollbacks", {"environment": env})
    with detachable(asked["id"]):
        done = client.wait(f"/rollbacks/{asked['id']}", report_progress)
    text = f"Rolled back {done['model']} {env}: v{done['replaced']} -> v{done['version']}"
    print_result(done, text, as_json=as_json)


@app.command()
def status(as_json: Json = False, person: As = "alice", model: Model = "") -> None:
    """Show what serves, what waits, and what disagrees: of one model, or of all."""
    from pipelines.api.client import executor_silence
    from pipelines.operator.changes import abandoned_changes
    from pipelines.operator.tables import status_table

    body = open_client(person, model).get("/status")
    # An API of before knows one model, and does not tell its name among others.
    further = [] if model else body.get("models", [])[1:]
    others = {name: open_client(person, name).get("/status") for name in further}
    text = "" if as_json else status_table([body, *others.values()])
    print_result({**body, **({"others": others} if others else {})}, text, as_json=as_json)
    for line in abandoned_changes(body, read_settings()):
        report_progress(line)
    silence = executor_silence(body)
    if silence:
        report_progress(silence)


@app.command()
def versions(
    before: Annotated[str, typer.Option(help="List versions older than this one.")] = "",
    as_json: Json = False,
    person: As = "alice",
    model: Model = "",
) -> None:
    """List the registered versions, newest first."""
    from pipelines.operator.tables import versions_table

    body = open_client(person, model).get("/versions", **({"before": before} if before else {}))
    print_result(body, "" if as_json else versions_table(body), as_json=as_json)


@app.command()
def report(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A registered version's number.")],
    compare: Annotated[str, typer.Option(metavar="VERSION", help="Another version, whose report stands beside.")] = "",
    as_json: Json = False,
    person: As = "alice",
    model: Model = "",
) -> None:
    """Show the report of a version: may it go to production, what is risky, what changes, and every gate."""
    from pipelines.domain.names import checked_version
    from pipelines.domain.report import Report
    from pipelines.operator.printed_report import compared_reports, printed_report

    if not version:
        raise UsageError("no version is named", next='VERSION=n; "make versions" lists them')
    client = open_client(person, model)
    numbers = [checked_version(each) for each in (version, compare) if each]
    answers = [client.get(f"/versions/{number}/report") for number in numbers]
    reports = [Report.read(each["report"]) for each in answers]
    if as_json:
        bodies = [each.as_json() for each in reports]
        print_result({"report": bodies[0], "compared": bodies[1]} if compare else bodies[0], "", as_json=True)
        return
    text = printed_report(reports[0], answers[0]["report_digest"])
    print_result({}, f"{text}\n\n{compared_reports(*reports)}" if compare else text, as_json=False)


@app.command()
def history(as_json: Json = False, person: As = "alice", model: Model = "") -> None:
    """Show who served what when, overrides included."""
    from pipelines.operator.tables import history_table

    body = open_client(person, model).get("/releases")
    print_result(body, "" if as_json else history_table(body), as_json=as_json)


@app.command()
def lineage(
    of: Annotated[
        str, typer.Argument(metavar="VERSION|HASH|COMMIT", help="Of a hash or a commit, seven digits are enough.")
    ] = "",
    as_json: Json = False,
    person: As = "alice",
    model: Model = "",
) -> None:
    """Show what a version comes of and what came of it, or which versions come of a data hash, a commit or an image."""
    from pipelines.operator.lineage import lineage_tree

    if not of.strip():
        raise UsageError("nothing is named to trace", next="WHAT=a version, a hash, a commit or an image's digest")
    # The name of an image says nothing that its digest does not.
    named = of.strip().rpartition("@")[2]
    body = open_client(person, model).get(f"/lineage/{quote(named, safe=':')}")
    print_result(body, "" if as_json else lineage_tree(body), as_json=as_json)


@app.command()
def live(
    drift: Annotated[bool, typer.Option("--drift", help="Measure drift now, and show each feature.")] = False,
    as_json: Json = False,
    person: As = "alice",
    model: Model = "",
) -> None:
    """Show what versions were asked and answered, what was lost of the sample, quality by labels, and drift."""
    from pipelines.operator.live import drift_told, live_told

    client = open_client(person, model)
    if drift:
        client.ask("/live/drift", {}, report_progress)
    body = client.get("/live")
    print_result(body, "" if as_json else (drift_told if drift else live_told)(body), as_json=as_json)


@app.command()
def feedback(
    file: Annotated[str, typer.Argument(help="CSV or JSON of request_id, label and, in a batch, row.")] = "",
    person: As = "alice",
    as_json: Json = False,
    model: Model = "",
) -> None:
    """Tell what was true of answered requests; the last label of a row counts."""
    from pipelines.operator.feedback_file import PIECE, read_labels

    if not file:
        raise UsageError("no file of labels is named", next="FILE=labels.csv, of request_id and label")
    client = open_client(person, model)
    labels = read_labels(Path(file), client.get("/live"))
    sent = [client.post("/feedback", {"labels": labels[at : at + PIECE]}) for at in range(0, len(labels), PIECE)]
    repeated = sum(each["labels"] for each in sent if each["repeated"])
    text = f"Sent {len(labels)} labels" + (f", {repeated} of which were known" if repeated else "")
    print_result(
        {"labels": len(labels), "repeated": repeated, "ids": [each["id"] for each in sent]}, text, as_json=as_json
    )


@app.command()
def audit(as_json: Json = False, limit: int = 50, person: As = "alice") -> None:
    """Show the last entries of the audit trail."""
    body = open_client(person).get("/audit", limit=str(limit))
    lines = [
        f"{e['seq']:5} {e['at']} {e['actor']:9} {e['action']:20} {e['phase']:8} {e['subject']} "
        + json.dumps(e["detail"])
        for e in body["entries"]
    ]
    print_result(body, "\n".join(lines), as_json=as_json)


@app.command("audit-verify")
def audit_verify(as_json: Json = False, person: As = "alice") -> None:
    """Verify the audit chain; exit 3 when an entry does not hold."""
    body = open_client(person).get("/audit/verification")
    print_result(body, f"{'valid' if body['valid'] else 'NOT VALID'}: {body['detail']}", as_json=as_json)
    if not body["valid"]:
        raise typer.Exit(3)


@app.command()
def archive(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    person: As = "alice",
    as_json: Json = False,
) -> None:
    """Remove what nothing needs any more, by the policy's section `retention`."""
    done = open_client(person).ask("/archives", {"dry_run": dry_run}, report_progress)
    found = done["found"]
    counts = [
        f"{len(found['bundles'])} bundles",
        f"{len(found['evaluation_sets'])} evaluation sets",
        f"files of {len(found['work'])} evaluations",
        f"the journal of {len(found['journal'])} pieces of work",
        f"{found['progress']} lines of progress",
    ]
    print_result(done, f"{'Would remove' if dry_run else 'Removed'} {', '.join(counts)}", as_json=as_json)


@policy_app.command("apply")
def policy_apply(
    file: Annotated[
        str, typer.Argument(help="The model's own policy.yaml, or that of the installation, if none.")
    ] = "",
    person: As = "alice",
    as_json: Json = False,
    model: Model = "",
) -> None:
    """Put a policy file in force for a model."""
    from pipelines.operator.policy_file import read_policy_file

    settings = read_settings()
    path = Path(file) if file else settings.model(model).policy_file(settings.project)
    done = open_client(person, model).ask("/policy", {"policy": read_policy_file(path)}, report_progress)
    print_result(done, f"Policy {done['digest']} is in force", as_json=as_json)


@policy_app.command("show")
def policy_show(person: As = "alice", model: Model = "") -> None:
    """Print the policy in force as JSON."""
    print(json.dumps(open_client(person, model).get("/policy"), indent=2))


@evalset_app.command("list")
def evalset_list(as_json: Json = False, person: As = "alice", model: Model = "") -> None:
    """List the evaluation sets of a model: who brought each, as what it judges, and which reports name it."""
    from pipelines.operator.evalsets import sets_table

    body = open_client(person, model).get("/evalsets")
    print_result(body, "" if as_json else sets_table(body["evalsets"]), as_json=as_json)


@evalset_app.command("add")
def evalset_add(
    file: Annotated[str, typer.Argument(help="Rows of your own, written as the source in model.yaml is.")],
    name: Annotated[str, typer.Option(help="What to call the set, such as hard_cases.")],
    as_json: Json = False,
    person: As = "alice",
    model: Model = "",
) -> None:
    """Add rows of your own as an evaluation set; adding the same ones again changes nothing."""
    from pipelines.operator.evalsets import add_set, added_told, log_set

    if not file:
        raise UsageError("no file of rows is named", next="FILE=rows of your own, as CSV or Parquet")
    client, settings = open_client(person, model), read_settings()
    project = settings.model(model)

    def log(snapshot: Path) -> str:
        return log_set(snapshot, project.name, settings, os.environ, report_progress)

    listed, known = add_set(Path(file), name, project.folder, client, log, report_progress=report_progress)
    print_result({**listed, "known": known}, added_told(listed, known=known), as_json=as_json)


@evalset_app.command("show")
def evalset_show(evalset: Set, as_json: Json = False, person: As = "alice", model: Model = "") -> None:
    """Show what an evaluation set holds: its rows, its target, its features; a confined job reads it."""
    from pipelines.operator.evalsets import chosen, read_set, set_as_json, set_told

    listed = chosen(open_client(person, model).get("/evalsets")["evalsets"], evalset)
    held = read_set(listed, read_settings(), os.environ, report_progress, model=model)
    print_result(set_as_json(listed, held), set_told(listed, held), as_json=as_json)


@evalset_app.command("diff")
def evalset_diff(old: Set, new: Set, as_json: Json = False, person: As = "alice", model: Model = "") -> None:
    """Say what differs between two evaluation sets: rows, columns, categories and labels."""
    from pipelines.operator.evalsets import chosen, differences, differences_told, read_set

    sets = open_client(person, model).get("/evalsets")["evalsets"]
    settings, (one, other) = read_settings(), (chosen(sets, word) for word in (old, new))
    read = [read_set(each, settings, os.environ, report_progress, model=model) for each in (one, other)]
    found = differences((f"set {one['number']}", f"set {other['number']}"), (read[0], read[1]))
    print_result(found.as_json(), differences_told(found), as_json=as_json)


def _staging_health(settings: "Settings", model: str) -> dict[str, Any]:
    """Ask staging itself what it serves: a success is not reported on hearsay."""
    from pipelines.operator.health import read_health

    return read_health(settings, Environment.STAGING, model)
