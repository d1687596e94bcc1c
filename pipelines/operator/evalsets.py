"""Adds evaluation sets of one's own, and shows them: the list, what one holds, and what differs between two."""

import json
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.api.client import ApiClient
from pipelines.domain.lineage import FEWEST_DIGITS
from pipelines.domain.policy import SET_NAME
from pipelines.errors import UsageError
from pipelines.operator.candidate import run_child
from pipelines.operator.tables import render
from pipelines.packaging.file_digest import digest_of_file
from pipelines.packaging.read_set import EvaluationSet, ask_evaluation_set
from pipelines.ports import JobBounds
from pipelines.settings.settings import Settings
from pipelines.training.differences import Differences, Side, compare

ProgressReporter = Callable[[str], None]

# As for what a version has logged: of a million rows the hashes are some 20 MB of text.
_READING = JobBounds(wall_s=300, memory_mb=2048, answer_bytes=256 << 20)


def add_set(
    file: Path,
    name: str,
    project: Path,
    client: ApiClient,
    log: Callable[[Path], str],
    *,
    report_progress: ProgressReporter,
) -> tuple[dict[str, Any], bool]:
    """Make a set of a file by a project's model.yaml and have it added; return it, and whether it was known.

    `log` logs it and returns the id of the run. Raises UsageError for values that can't be meant, and what the executor
    finds against the set.
    """
    from pipelines.training.own_set import write_own_set

    if not re.fullmatch(SET_NAME, name):
        raise UsageError(f"{name[:60]!r} is no name of a set", next="NAME=letters a to z, digits and _: hard_cases")
    with tempfile.TemporaryDirectory() as place:
        # Runs keep it by the name of the file.
        snapshot = Path(place) / "evaluation.parquet"
        digest = write_own_set(project, file, snapshot)
        if known := _added(client, digest):
            return known, True
        run_id = log(snapshot)
    client.ask("/evalsets", {"name": name, "digest": digest, "run_id": run_id}, report_progress)
    added = _added(client, digest)
    assert added is not None
    return added, False


def log_set(
    snapshot: Path, model: str, settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter
) -> str:
    """Log a set of a model in a run of its own, with the trainer's rights; return the run's id."""
    from pipelines.wiring.targets import open_installation

    command = [sys.executable, "-m", "pipelines.wiring.register", "--tracking-uri", settings.mlflow_url]
    child = {**settings.child_environ(environ), **open_installation(settings, environ).trainer()}
    told = run_child([*command, "--evaluation", model, str(snapshot)], settings.project, child, report_progress)
    return str(json.loads(told.splitlines()[-1])["run_id"])


def _added(client: ApiClient, digest: str) -> dict[str, Any] | None:
    listed: list[dict[str, Any]] = client.get("/evalsets")["evalsets"]
    return next((each for each in listed if each["digest"] == digest and each["added"]), None)


def added_told(listed: dict[str, Any], *, known: bool) -> str:
    """Return what was added, for people, and how the policy has versions judged by it."""
    added = listed["added"]
    what = f"evaluation set {listed['number']}, {added['name']}: {added['rows']:,} rows, {listed['digest']}"
    head = f"Known: {added['person']} added it at {added['at']}; {what}" if known else f"Added {what}"
    line = f'    {added["name"]}: {{digest: "{listed["digest"]}"}}'
    return "\n".join([head, 'in policy.yaml, before "make policy-apply":', "evaluation:", "  sets:", line])


def sets_table(sets: list[dict[str, Any]]) -> str:
    """Return the sets of a model for a terminal."""
    if not sets:
        return 'no version has brought an evaluation set yet; next: "make candidate"'
    rows = []
    for each in sets:
        judged = f"{len(each['judged'])} ({each['judged'][-1]} last)" if each["judged"] else "none"
        roles = [*(["in force"] if each["in_force"] else []), *each["named"]]
        rows.append((str(each["number"]), each["digest"], _origin(each), ", ".join(roles), judged))
    return render(("set", "digest", "brought by", "judges as", "reports"), rows)


def _origin(listed: dict[str, Any]) -> str:
    """Say which version has brought a set, and who has added it by which name and when."""
    added = listed.get("added")
    who = [f"{added['person']} as {added['name']}, {added['at'][:10]}"] if added else []
    return "; ".join([*([f"v{listed['version']}"] if listed["version"] else []), *who])


def chosen(sets: list[dict[str, Any]], word: str) -> dict[str, Any]:
    """Return the set that a number, a name, or at least seven digits of a digest mean.

    A name is one of the policy, or else that of the set that was added by it last. Raises UsageError for none, and for
    several, which it names.
    """
    digits = word.strip().lower().removeprefix("sha256:")
    for each in sets:
        if word in (str(each["number"]), *each["named"]):
            return each
    if by_name := [each for each in sets if each.get("added") and each["added"]["name"] == word]:
        return by_name[-1]
    found = [each for each in sets if each["digest"].removeprefix("sha256:").startswith(digits)]
    if len(digits) >= FEWEST_DIGITS and len(found) == 1:
        return found[0]
    if len(digits) >= FEWEST_DIGITS and found:
        named = ", ".join(each["digest"] for each in found)
        raise UsageError(f"{word[:80]!r} may mean {named}", next="give more of its digits")
    raise UsageError(
        f"{word[:80]!r} is no evaluation set of this model",
        next=f'give its number, its name or {FEWEST_DIGITS} digits: "slipway evalset list"',
    )


def read_set(
    listed: dict[str, Any],
    settings: Settings,
    environ: Mapping[str, str],
    report_progress: ProgressReporter,
    *,
    model: str,
) -> EvaluationSet:
    """Fetch a listed set from the run that has logged it, and have it read by a confined job.

    Raises UsageError where the run has none any more, or another.
    """
    from pipelines.packaging.package import EVALUATION_ARTIFACT
    from pipelines.wiring.stores import open_registry_as
    from pipelines.wiring.targets import open_installation, wiring_of

    registry = open_registry_as(settings, open_installation(settings, environ).trainer())
    added = listed.get("added")
    run_id = added["run_id"] if added else registry.version(settings.model(model).name, listed["version"]).run_id
    report_progress(f"reading evaluation set {listed['number']}, of {_origin(listed)}")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        file = registry.fetch_artifact(run_id, EVALUATION_ARTIFACT, place) if run_id else None
        found = digest_of_file(file) if file else "none"
        if file is None or found != listed["digest"]:
            raise UsageError(
                f"the run of set {listed['number']}, of {_origin(listed)}, has another evaluation set by now:"
                f" expected {listed['digest']}, got {found}",
                next="the one that was brought still judges here; a backup of the registry has its file",
            )
        jobs = wiring_of(settings.target).open_reader(settings, environ, report_progress)
        return ask_evaluation_set(lambda task, files: jobs.run(task, files, _READING), file)


def set_as_json(listed: dict[str, Any], held: EvaluationSet) -> dict[str, Any]:
    """Return what a set holds, as it is printed on request."""
    spread = dict(zip(("least", "middle", "greatest"), held.target, strict=True)) if held.target else None
    return {
        **listed,
        "rows": len(held.rows),
        "description": held.description.as_dict(),
        "missing": held.rows.missing,
        "labels": dict(held.labels),
        "target": spread,
    }


def set_told(listed: dict[str, Any], held: EvaluationSet) -> str:
    """Return what a set holds, for people: its rows, its target and its features."""
    rows, described = len(held.rows), held.description
    lines = [f"set {listed['number']}, of {_origin(listed)}: {listed['digest']}", f"{rows:,} rows"]
    if held.target:
        least, middle, greatest = held.target
        lines.append(f"{described.target}: {least:g} to {greatest:g}, the middle {middle:g}")
    shares = [(label, f"{count:,}", f"{count / rows:.1%}") for label, count in held.labels]
    lines += [render((described.target, "rows", "share"), shares)] if shares else []
    features = [
        (each.name, str(each.type), f"{held.rows.missing.get(each.name, 0):,}", ", ".join(each.categories))
        for each in described.features
    ]
    return "\n".join([*lines, render(("feature", "type", "missing", "categories"), features)])


def differences(names: tuple[str, str], sets: tuple[EvaluationSet, EvaluationSet]) -> Differences:
    """Compare two sets: their rows, columns and categories."""
    old, new = (Side(name, each.description, each.rows) for name, each in zip(names, sets, strict=True))
    return compare(old, new)


def differences_told(found: Differences) -> str:
    """Return the differences of two sets for people."""
    lines = [f"from {found.old} to {found.new}"]
    if rows := found.rows:
        by = f"by {', '.join(rows.by)}" if rows.by else "by their values"
        changed = (
            ""
            if not rows.by
            else ", unknown how many changed"
            if rows.changed is None
            else f", {rows.changed:,} changed"
        )
        lines.append(f"rows ({by}): {rows.added:,} added, {rows.removed:,} removed{changed}")
    changes = [(column.name, change) for column in found.columns for change in column.changes]
    return "\n".join([*lines, render(("column", "change"), changes) if changes else "no column changed"])
