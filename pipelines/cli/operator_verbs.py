"""The verbs of the operator's machine: they work with the operator's rights, and need no API."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.terminal import (
    As,
    Json,
    Model,
    open_client,
    print_result,
    read_settings,
    read_token,
    report_progress,
)
from pipelines.domain.texts import printable
from pipelines.errors import UsageError

if TYPE_CHECKING:
    from pipelines.settings.settings import Settings

app = typer.Typer()
data_app = typer.Typer(no_args_is_help=True, help="Move the data of the project, or say what changed in it.")
app.add_typer(data_app, name="data")
model_app = typer.Typer(
    no_args_is_help=True, help="Describe a model of your own; add models to the installation and remove them."
)
app.add_typer(model_app, name="model")


@app.command()
def setup(extra: Annotated[str, typer.Argument(help="optional libraries, such as boosting")] = "") -> None:
    """Make or mend .venv with everything locked."""
    from pipelines.developer.install import main as make_venv

    raise typer.Exit(make_venv(extra))


@app.command()
def up() -> None:
    """Start everything and wait until it answers."""
    from pipelines.operator.up import bring_up

    bring_up(read_settings(moving=True), os.environ, report_progress)


@app.command()
def down() -> None:
    """Stop what `up` started, and keep all state."""
    from pipelines.operator.down import take_down

    take_down(read_settings(), os.environ, report_progress)


@app.command()
def destroy(confirm: Annotated[str, typer.Option(help="yes")] = "") -> None:
    """Stop everything and remove all state for ever."""
    from pipelines.operator.down import destroy_home

    if confirm != "yes":
        raise UsageError("destroy removes all versions, releases and the audit trail", next="CONFIRM=yes")
    destroy_home(read_settings(), os.environ, report_progress)


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(help="A new file.")],
    to: Annotated[str, typer.Option(help="Encrypt to these public keys of age, separated by commas.")] = "",
    as_json: Json = False,
) -> None:
    """Write all state of the installation into one file, while it runs."""
    from pipelines.operator.backup import back_up

    _refuse_unnamed(file, "a new file")
    done = back_up(
        file, [key.strip() for key in to.split(",") if key.strip()], read_settings(), os.environ, report_progress
    )
    how = "encrypted" if done["encrypted"] else "not encrypted: whoever can read it can read every secret"
    text = (
        f"Backed up {done['files']} files into {done['file']}, {done['bytes']:,} bytes, in {done['seconds']} s ({how})"
    )
    if done["head"]:
        text += f"\nHead of the audit log: {done['head']}; keep it elsewhere, for restore --head"
    print_result(done, text, as_json=as_json)


def _refuse_unnamed(file: Path, what: str) -> None:
    # What make passes on where nobody has named one.
    if file == Path():
        raise UsageError("no file is named", next=f"FILE=name of {what}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `backup` wrote.")],
    identity: Annotated[str, typer.Option(help="File with the secret key of age, for an encrypted one.")] = "",
    head: Annotated[str, typer.Option(help="SEQ:HASH that the audit log has to hold, as `backup` printed it.")] = "",
    as_json: Json = False,
) -> None:
    """Make a new home of a backup; `up` then starts it."""
    from pipelines.domain.audit import Checkpoint
    from pipelines.operator.backup import restore as restore_home
    from pipelines.settings.settings import Settings

    _refuse_unnamed(file, 'what "make backup" wrote')
    key, expected = Path(identity) if identity else None, Checkpoint.parse(head) if head else None
    settings = Settings.from_environ(os.environ)
    done = restore_home(file, key, settings, os.environ, report_progress, expected=expected)
    text = f"Restored {done['model']} as of {done['created_at']} into {done['home']} in {done['seconds']} s"
    if done["head"]:
        sure = "it holds the one that was expected" if done["holds_expected"] else "undecided whether it is the last"
        text += f"\nHead of the audit log: {done['head']} ({sure})"
    print_result(done, text, as_json=as_json)
    report_progress('next: "make up"; beside another installation first give it other ports (SLIPWAY_PORT_...)')


@app.command()
def logs(lines: Annotated[int, typer.Option(min=1)] = 20) -> None:
    """Show the last lines that every process wrote."""
    from pipelines.wiring.targets import open_installation

    for name, tail in open_installation(read_settings(), os.environ).logs(lines).items():
        print(f"== {name}")
        print(printable("\n".join(tail)))


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check the invariants; exit 3 if one is broken, 4 if one can't be measured."""
    from pipelines.operator.doctor import run_doctor

    body = run_doctor(read_settings(), os.environ)
    signs = {True: "ok", False: "BROKEN", None: "unknown"}
    lines = []
    for each in body["invariants"]:
        lines.append(f"{each['id']} {signs[each['holds']]:8} {each['detail']}")
        if each["holds"] is not True and each.get("next"):
            lines.append(f"   next: {each['next']}")
    lines += [f"{e['action']} of {e['subject']} was begun at {e['at']} and not ended" for e in body["open_intents"]]
    print_result(body, "\n".join(lines), as_json=as_json)
    found = [invariant["holds"] for invariant in body["invariants"] if invariant.get("measurable", True)]
    if False in found:
        raise typer.Exit(3)
    if None in found:
        raise typer.Exit(4)


@app.command()
def demo(
    models: Annotated[int, typer.Option(min=1, max=2, help="2: a second model goes to production beside it.")] = 1,
) -> None:
    """Take versions all the way and back, and leave everything running."""
    from pipelines.operator.demo import run_demo

    run_demo(read_settings(moving=True), os.environ, report_progress, models=models)


@app.command()
def loadtest(
    env: Annotated[str, typer.Option(help="staging; nothing else is ever loaded")] = "staging",
    rate: Annotated[str, typer.Option(help="Highest requests a second, instead of the policy's.")] = "",
    duration: Annotated[str, typer.Option(help="Seconds of a look, instead of the policy's.")] = "",
    workers: Annotated[str, typer.Option(help="How many send; on containers, tasks of the swarm.")] = "",
    shape: Annotated[str, typer.Option(help="steady, ramp, spike, soak or step")] = "",
    find_capacity: Annotated[bool, typer.Option(help="Find the highest rate that meets the SLO.")] = False,
    person: As = "alice",
    as_json: Json = False,
    model: Model = "",
) -> None:
    """Load staging's live slot and judge it by the SLO: exit 0 passed, 3 failed, 4 inconclusive."""
    from pipelines.operator.load_run import LoadRequest, run_loadtest
    from pipelines.wiring.targets import wiring_of

    request = LoadRequest.parse(
        environment=env,
        model=model,
        rate=rate,
        duration=duration,
        workers=workers,
        shape=shape,
        find_capacity=find_capacity,
    )
    policy = open_client(person, model).get("/policy")["policy"] if env == "staging" else None
    try:
        settings = read_settings()
        swarm = wiring_of(settings.target).find_staging_load(settings, os.environ, report_progress)
        code, result = run_loadtest(request, settings, policy, report_progress, swarm=swarm)
    except KeyboardInterrupt:
        report_progress("stopped; nothing was judged")
        raise typer.Exit(130) from None
    lines = [check["message"] for check in result["checks"]]
    lines += [f"{result['verdict']}, path measured: {result['via']}", f"{result['directory']}/report.html"]
    print_result(result, "\n".join(lines), as_json=as_json)
    if result["next"]:
        report_progress(f"next: {result['next']}")
    raise typer.Exit(code)


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="One benchmark, or all.")] = "all",
    count: Annotated[str, typer.Option(help="How often, where a benchmark repeats something.")] = "",
    only: Annotated[str, typer.Option(help="Of the faults, those that have this in their name.")] = "",
) -> None:
    """Measure, and write bench/results/NAME.json."""
    from pipelines.developer.develop import become_benchmark

    become_benchmark([name, f"--count={count}", f"--only={only}"], os.environ)


@app.command()
def images(
    names: Annotated[list[str] | None, typer.Argument(help="Which ones; all, when none is named.")] = None,
    as_json: Json = False,
) -> None:
    """Build the container images that are missing, and print the id of each."""
    from pipelines.wiring.images import build_images

    built = build_images(names or [], os.environ, report_progress)
    print_result(built, "\n".join(f"{name:15} {image}" for name, image in built.items()), as_json=as_json)


@app.command("secrets")
def manage_secrets(
    action: Annotated[str, typer.Argument(help="rotate, or nothing to make what is missing.")] = "",
    name: Annotated[str, typer.Argument(help="Which secret, or all.")] = "",
    as_json: Json = False,
) -> None:
    """Name the secrets of the containers, or give them new values everywhere; no value is shown."""
    from pipelines.operator.secrets import rotate_secrets

    if (action, bool(name)) not in (("", False), ("rotate", True)):
        raise UsageError(f"secrets {action} {name} is no request".replace("  ", " "), next="slipway secrets rotate all")
    names = rotate_secrets(name, read_settings(), os.environ, report_progress)
    print_result({"secrets": names}, "\n".join(names), as_json=as_json)


@data_app.command("push")
def data_push(as_json: Json = False, model: Model = "") -> None:
    """Put the data that dvc.lock names into the object store of the containers."""
    from pipelines.operator.data import move_data

    told = move_data(read_settings(), os.environ, into_store=True, model=model)
    print_result({"dvc": told}, told, as_json=as_json)


@data_app.command("pull")
def data_pull(as_json: Json = False, model: Model = "") -> None:
    """Fetch the data that dvc.lock names from the object store into the project."""
    from pipelines.operator.data import move_data

    told = move_data(read_settings(), os.environ, into_store=False, model=model)
    print_result({"dvc": told}, told, as_json=as_json)


@data_app.command("diff")
def data_difference(
    old: Annotated[str, typer.Argument(help="A version, an alias, a git revision, or . for the working tree.")] = "",
    new: Annotated[str, typer.Argument(help="The same.")] = "",
    as_json: Json = False,
    model: Model = "",
) -> None:
    """Say what changed in the data, from production's to the working tree's; exit 3 if it breaks clients undeclared."""
    from pipelines.operator.data_diff import PRODUCTION, WORKING_TREE, data_diff

    states = (old or PRODUCTION, new or WORKING_TREE)
    found, told = data_diff(*states, read_settings(), os.environ, report_progress, model=model)
    print_result(found.as_json(), told, as_json=as_json)
    if found.breaks and not found.declared:
        raise typer.Exit(3)


@model_app.command("init")
def model_init(
    file: Annotated[Path, typer.Argument(help="A CSV or Parquet file: in the project, or for one of its own any.")],
    target: Annotated[str, typer.Option(help="The column to be predicted.")],
    name: Annotated[str, typer.Option(help="Of the model; otherwise that of the folder, or of the file.")] = "",
    ids: Annotated[
        list[str] | None, typer.Option("--id", help="A column that says which row it is; again for more.")
    ] = None,
    folder: Annotated[
        str, typer.Option("--project", help="A new folder that becomes a project of its own; models/NAME is one.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Write over an existing model.yaml.")] = False,
    as_json: Json = False,
) -> None:
    """Propose a model.yaml for a file of data, and write it into the project, or into a new one."""
    from pipelines.operator.model_init import init_model, init_project, steps_of
    from pipelines.settings.settings import Settings

    _refuse_unnamed(file, "a file of data")
    if not target:
        raise UsageError("no target is named", next="--target COLUMN (make: TARGET_COLUMN=name)")
    project = Settings.from_environ(os.environ).project
    named = tuple(each for each in ids or () if each)
    if folder:
        own = Path(folder)
        body, told = init_project(own, file, project, target=target, name=name, ids=named, force=force)
        after = steps_of(own, project, body)
    else:
        body, told = init_model(project, file, target=target, name=name, ids=named, force=force)
        after = 'look at model.yaml, then "make candidate"'
    print_result(body, told, as_json=as_json)
    report_progress(f"next: {after}")


@model_app.command("add")
def model_add(
    given: Annotated[
        str, typer.Argument(metavar="[NAME|FOLDER]", help="A model of models/, or the folder of one; otherwise all.")
    ] = "",
    person: As = "alice",
    as_json: Json = False,
) -> None:
    """Add a model to the running installation, or one that was removed; the others serve on."""
    from pipelines.operator.models import add_model

    settings = read_settings()
    added = add_model(settings, os.environ, given, read_token(settings, person), report_progress)
    names = [model.name for model in added]
    print_result({"models": names}, f"Added {', '.join(names)}", as_json=as_json)
    report_progress(f'next: "make candidate MODEL={names[0]}"')


@model_app.command("remove")
def model_remove(
    name: Annotated[str, typer.Argument(help="A model beside the default one.")],
    person: As = "alice",
    as_json: Json = False,
) -> None:
    """Have nothing of a model serve any more; its versions, history and audit stay."""
    from pipelines.operator.models import remove_model

    settings = read_settings()
    remove_model(settings, os.environ, name, read_token(settings, person), report_progress)
    print_result({"model": name, "archived": True}, f"Archived {name}", as_json=as_json)


@model_app.command("list")
def model_list(person: As = "alice", as_json: Json = False) -> None:
    """List the models of the installation, those that were removed among them."""
    from pipelines.operator.models import list_models
    from pipelines.operator.tables import models_table

    rows = list_models(read_settings(), open_client(person))
    print_result({"models": rows}, "" if as_json else models_table(rows), as_json=as_json)


Numbered = Annotated[str, typer.Argument(metavar="VERSION", help="A registered version's number.")]


@model_app.command("check")
def model_check(version: Numbered, as_json: Json = False, model: Model = "") -> None:
    """Say whether a registered version can be served, and why not; nothing is changed."""
    from pipelines.operator.model_versions import check_version

    number = _numbered(version)
    body = check_version(read_settings(), os.environ, number, report_progress, model=model)
    print_result(body, f"{body['model']} v{body['version']} can be served: {body['told']}", as_json=as_json)
    report_progress(f'next: "make deploy-staging VERSION={version}"')


@model_app.command("convert")
def model_convert(
    version: Numbered,
    rows: Annotated[str, typer.Option(help="The version whose evaluation rows it is compared on.")] = "",
    as_json: Json = False,
    model: Model = "",
) -> None:
    """Convert a version's estimator to ONNX in a container without network, and register that as a new version."""
    from pipelines.operator.model_versions import convert_version

    number, judging = _numbered(version), _numbered(rows) if rows else None
    body = convert_version(read_settings(), os.environ, number, judging, report_progress, model=model)
    text = f"Converted {body['model']} v{body['converted_from']} -> v{body['model_version']}"
    print_result(body, text, as_json=as_json)
    report_progress(f'next: "make deploy-staging VERSION={body["model_version"]}"')


def _numbered(version: str) -> str:
    from pipelines.domain.names import checked_version

    if not version:
        raise UsageError("no version is named", next='VERSION=n; "make versions" lists them')
    return checked_version(version)


@app.command()
def offline(
    part: Annotated[str, typer.Argument(help="engine, base, provider, tools, all, or stop.")] = "all",
) -> None:
    """Make on a closed network what can't be pulled there; `stop` ends the engine that it started."""
    from pipelines.operator.offline import prepare_offline

    prepare_offline(part, os.environ)


@app.command()
def check() -> None:
    """Check format, lint, types and import contracts of Slipway itself."""
    from pipelines.developer.develop import run_checks

    run_checks()


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def test(context: typer.Context) -> None:
    """Run every test that this machine can, naming what it skips; further words go to pytest."""
    from pipelines.developer.develop import run_tests

    raise typer.Exit(run_tests(context.args, os.environ))


@app.command()
def mutants(word: Annotated[str, typer.Argument(help="Only faults whose file or text holds it.")] = "") -> None:
    """Seed faults into copies of the code, and name those that no test finds (3)."""
    from pipelines.developer.develop import run_mutants

    raise typer.Exit(run_mutants(word))


@app.command()
def zoo(count: Annotated[str, typer.Option(help="How many evaluation sets, 200 by default.")] = "") -> None:
    """Judge good and bad models on redrawn data, and show how often the gates are wrong."""
    from pipelines.developer.develop import run_zoo

    raise typer.Exit(run_zoo(count))


@app.command("lock")
def lock_dependencies() -> None:
    """Resolve all dependencies anew into requirements/."""
    from pipelines.developer.develop import lock

    lock()


@app.command()
def reference() -> None:
    """Write the schemas of all formats into docs/reference, and name the files that changed."""
    from pipelines.developer.reference import write_reference

    for name in write_reference():
        print(name)


@app.command(hidden=True)
def api() -> None:
    """Serve the API (started by `up`)."""
    from pipelines.operator.processes import run_api

    run_api(_told_settings())


@app.command(hidden=True)
def executor() -> None:
    """Carry commands out (started by `up`)."""
    from pipelines.operator.processes import run_executor

    run_executor(_told_settings(), os.environ)


@app.command(hidden=True)
def tables() -> None:
    """Make or upgrade the tables as their owner (run by `up`, in a container that does nothing else)."""
    from pipelines.wiring.tables import make_tables

    make_tables(os.environ)


@app.command(hidden=True)
def work() -> None:
    """Say in JSON what the executor works on (asked by `up` and `down` where the API does not answer)."""
    from pipelines.wiring.processes import find_work

    print(json.dumps({"work": find_work(_told_settings())}))


def _told_settings() -> "Settings":
    """Read the settings of a process of the installation, which was told all of them by what started it."""
    from pipelines.settings.settings import Settings

    return Settings.from_environ(os.environ)
