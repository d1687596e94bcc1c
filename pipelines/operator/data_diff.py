"""Says what changed in the data of a model since a version, or between any two states of it."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pipelines.domain.names import is_version
from pipelines.domain.texts import one_line
from pipelines.errors import UsageError
from pipelines.operator.tables import render
from pipelines.ports import JobBounds
from pipelines.settings.models import ModelProject
from pipelines.settings.settings import Settings
from pipelines.training.differences import Differences, Side, compare, read_tree, registered_side
from pipelines.training.model_file import ModelFile
from pipelines.training.repositories import dvc_root

ProgressReporter = Callable[[str], None]

WORKING_TREE, PRODUCTION = ".", "production"
_GIT_S, _DVC_S = 60.0, 600.0
# The files of a version are a stranger's. Of a million rows the hashes are some 20 MB of text.
_READING = JobBounds(wall_s=300, memory_mb=2048, answer_bytes=256 << 20)


def data_diff(
    old: str,
    new: str,
    settings: Settings,
    environ: Mapping[str, str],
    report_progress: ProgressReporter,
    *,
    model: str = "",
) -> tuple[Differences, str]:
    """Compare two states of a model; return their differences, and the same for people.

    Without a `model` it is the default one.
    A state is the working tree (`.`), a version by its alias or number, or a git revision. Raises UsageError for one
    that there is not, and for data that can't be read.
    """
    project = settings.model(model)
    found = [_side(each, project, settings, environ, report_progress) for each in (old, new)]
    differences = compare(*found)
    return differences, _told(differences)


def _side(
    word: str,
    project: ModelProject,
    settings: Settings,
    environ: Mapping[str, str],
    report_progress: ProgressReporter,
) -> Side:
    if word == WORKING_TREE:
        return read_tree(project.folder, "the working tree")
    if word in (PRODUCTION, "staging") or is_version(word):
        return _registered(word, project.name, settings, environ, report_progress)
    with tempfile.TemporaryDirectory() as place:
        report_progress(f"reading the data of revision {word}")
        _check_out(word, project.folder, Path(place), environ)
        return read_tree(Path(place), f"revision {word}")


def _registered(
    word: str, model: str, settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter
) -> Side:
    from pipelines.packaging.logged_data import ask_logged_data
    from pipelines.packaging.package import BREAKING_TAG, EVALUATION_ARTIFACT, fetch_training_rows
    from pipelines.wiring.stores import open_registry_as
    from pipelines.wiring.targets import open_installation, wiring_of

    registry = open_registry_as(settings, open_installation(settings, environ).trainer())
    number = word if is_version(word) else registry.aliases(model).get(word)
    if number is None:
        raise UsageError(f"{word} serves no version of {model}", next="name a version, or a git revision: OLD=...")
    version = registry.version(model, number)
    report_progress(f"reading what version {number} has logged of its data")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        evaluation = registry.fetch_artifact(version.run_id, EVALUATION_ARTIFACT, place) if version.run_id else None
        if evaluation is None:
            raise UsageError(
                f"version {number} of {model} has logged no evaluation set", next="compare with a git revision instead"
            )
        rows = fetch_training_rows(registry, version.run_id, place)
        reason = registry.run_tags(version.run_id).get(BREAKING_TAG)
        jobs = wiring_of(settings.target).open_reader(settings, environ, report_progress)
        logged = ask_logged_data(lambda task, files: jobs.run(task, files, _READING), evaluation, rows)
        return registered_side(f"version {number}", *logged, breaking=reason)


def _check_out(revision: str, project: Path, into: Path, environ: Mapping[str, str]) -> None:
    """Write a revision's model.yaml and source into a directory."""
    if revision.startswith("-"):
        raise UsageError(f"{revision[:40]!r} is no revision", next="name a commit, a branch or a tag")
    (into / "model.yaml").write_bytes(_shown(revision, "model.yaml", project))
    source = ModelFile.load(into / "model.yaml").source.path
    target = into / source
    if not target.resolve().is_relative_to(into.resolve()):
        raise UsageError(f"source.path {source!r} of {revision} leads out of the project", next="name another revision")
    target.parent.mkdir(parents=True, exist_ok=True)
    if (kept := _found(revision, source, project)) is not None:
        target.write_bytes(kept)
        return
    kept_in = dvc_root(project) or project
    place = (project / source).resolve().relative_to(kept_in.resolve())
    command = [sys.executable, "-m", "dvc", "get", str(kept_in), str(place), "--rev", revision, "--out", str(target)]
    done = subprocess.run(
        command, cwd=project, capture_output=True, text=True, timeout=_DVC_S, check=False,
        env={**environ, "DVC_NO_ANALYTICS": "1"},
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        raise UsageError(f"{source} of {revision} is neither in git nor in DVC: {said[0]}", next='"dvc fetch -a" it')


def _shown(revision: str, path: str, project: Path) -> bytes:
    content = _found(revision, path, project)
    if content is None:
        raise UsageError(
            f"there is no {path} of {revision[:80]!r}: it is no version and no revision of this project",
            next="name a version, an alias (production), a commit, or . for the working tree",
        )
    return content


def _found(revision: str, path: str, project: Path) -> bytes | None:
    try:
        done = subprocess.run(
            ["git", "show", f"{revision}:./{path}"], cwd=project, capture_output=True, timeout=_GIT_S, check=False
        )
    except FileNotFoundError as error:
        raise UsageError("git is not installed, so no revision can be read", next="name a version instead") from error
    return done.stdout if done.returncode == 0 else None


def _told(found: Differences) -> str:
    lines = [f"from {found.old} to {found.new}", _rows_told(found)]
    changes = [(column.name, change) for column in found.columns for change in column.changes]
    told = [(one_line(name), one_line(change)) for name, change in changes]
    lines.append(render(("column", "change"), told) if told else "no column changed")
    if not found.breaks:
        return "\n".join([*lines, "clients notice nothing"])
    lines += [f"breaks clients: {one_line(each)}" for each in found.breaks]
    if found.declared:
        return "\n".join([*lines, f"declared in model.yaml: {one_line(found.declared)}"])
    return "\n".join([*lines, "not declared: the gate schema stops such a version"])


def _rows_told(found: Differences) -> str:
    rows = found.rows
    if rows is None:
        return "rows: unknown, since a version does not say which rows it was trained on"
    by = f"by {one_line(', '.join(rows.by))}" if rows.by else "by their values"
    changed = "unknown how many changed" if rows.changed is None else f"{rows.changed:,} changed"
    return f"rows ({by}): {rows.added:,} added, {rows.removed:,} removed" + (f", {changed}" if rows.by else "")
