"""What can be said and done of a registered version from the operator's machine: whether it serves, and its conversion.

Files of a version are only moved here; what reads them, or loads an estimator, is a confined job.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.domain.policy import EvaluationBounds
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import JobFailed, NotServable, UsageError
from pipelines.operator.candidate import ProgressReporter, run_child
from pipelines.packaging.confined import EVALUATION, MODEL, ask
from pipelines.packaging.converted import ConversionTask, ConvertedFolder, ConvertedVersion
from pipelines.packaging.package import (
    COMMIT_TAG,
    EVALUATION_TAG,
    REFERENCE_TAG,
    TRAIN_TAG,
    fetch_evaluation,
    fetch_reference,
    make_bundle,
)
from pipelines.ports import JobBounds, JobRunner, ModelRegistry
from pipelines.settings.settings import Settings
from pipelines.wiring.stores import open_bundles_in, open_registry_as
from pipelines.wiring.targets import open_installation, wiring_of

# Whose rows judge a version that has none of its own, in this order.
_JUDGING = ("production", "staging")
# A forest of half a gigabyte loads and is exported within these; its answer is the export as text.
_CONVERSION = JobBounds(wall_s=900, memory_mb=4096, answer_bytes=128 << 20)
_SOURCE_TAG = "slipway.dataset.source"
_CONVERTED_TAG = "slipway.converted_from"
_KEPT_TAGS = (COMMIT_TAG, TRAIN_TAG, REFERENCE_TAG, _SOURCE_TAG, "slipway.git_dirty")


@dataclass(frozen=True)
class _Rows:
    """An evaluation set, its digest, and the version that brought it."""

    path: Path
    digest: str
    owner: str


def check_version(
    settings: Settings,
    environ: Mapping[str, str],
    number: str,
    report_progress: ProgressReporter,
    *,
    model: str = "",
) -> dict[str, Any]:
    """Package a version as an evaluation would, and keep nothing; return what can be served.

    Without a `model` it is one of the default model.
    Raises NotServable with what it lacks, Refused for files that its run does not name.
    """
    registry, _ = _registry(settings, environ)
    version = registry.version(settings.model(model).name, number)
    jobs = wiring_of(settings.target).open_reader(settings, environ, report_progress)
    limits = EvaluationBounds()
    bounds = JobBounds(limits.job_s, limits.job_memory_mb)
    with tempfile.TemporaryDirectory() as place:
        folder, used = Path(place), list[_Rows]()

        def fallback() -> Path | None:
            used.extend(_judging(registry, version, None, folder / "judging"))
            return used[0].path if used else None

        packaged = make_bundle(
            registry,
            open_bundles_in(folder / "bundles"),
            lambda task, files: jobs.run(task, files, bounds),
            version,
            pinned=None,
            fallback_evaluation=fallback,
            workdir=folder / "work",
        )
    rows = f"rows of v{used[0].owner}" if used else "rows of its own"
    body = packaged.body
    told = f"{body['task']}, {len(body['features'])} features, judged by {rows}, bundle {packaged.digest}"
    return {
        "model": version.model,
        "version": version.version,
        "servable": True,
        "task": body["task"],
        "features": [feature["name"] for feature in body["features"]],
        "bundle_digest": packaged.digest,
        "evalset_digest": packaged.evaluation_digest,
        "told": told,
    }


def convert_version(
    settings: Settings,
    environ: Mapping[str, str],
    number: str,
    rows: str | None,
    report_progress: ProgressReporter,
    *,
    model: str = "",
) -> dict[str, Any]:
    """Convert a version's estimator in a container, and register the result as a version of the same model.

    `rows` names the version whose evaluation set both forms have to answer in the same way; without it that is the
    version's own, or that of the one in production or staging. Raises TargetUnavailable where nothing is confined
    enough, NotServable with why it can't be converted.
    """
    jobs = wiring_of(settings.target).open_converter(settings, environ, report_progress)
    registry, trainer = _registry(settings, environ)
    version = registry.version(settings.model(model).name, number)
    with tempfile.TemporaryDirectory() as place:
        converted = convert_files(
            jobs, registry, version, rows=rows, folder=Path(place), report_progress=report_progress
        )
        command = [sys.executable, "-m", "pipelines.wiring.register", "--tracking-uri", settings.mlflow_url]
        child = {**settings.child_environ(environ), **trainer}
        told = run_child([*command, "--converted", str(converted)], settings.project, child, report_progress)
    return {"model": version.model, "converted_from": number, **json.loads(told.splitlines()[-1])}


def convert_files(
    jobs: JobRunner,
    registry: ModelRegistry,
    version: RegisteredVersion,
    *,
    rows: str | None,
    folder: Path,
    report_progress: ProgressReporter,
) -> Path:
    """Have a version converted by a job, and return the folder below `folder` that holds what is registered of it."""
    registry.fetch_model(version, folder / "source")
    judging = next(iter(_judging(registry, version, rows, folder / "judging")), None)
    if judging is None:
        raise UsageError(
            f"no evaluation rows are known to compare v{version.version} on: neither it nor what is in production or"
            " staging has any",
            next="ROWS=m names a version that has, or log it where it was fitted: slipway.log_model",
        )
    report_progress(f"converting v{version.version}, compared on the evaluation rows of v{judging.owner}")
    done = _converted(jobs, version, folder, judging)
    target = folder / "converted"
    target.mkdir()
    try:
        done.write(target)
    except ValueError as error:
        raise JobFailed(f"what converts it answered with no model: {error}", next="try again") from error
    judging.path.replace(target / ConvertedFolder.EVALUATION)
    if version.run_id and (reference := fetch_reference(registry, version.run_id, folder)):
        reference.replace(target / ConvertedFolder.REFERENCE)
    tags = registry.run_tags(version.run_id) if version.run_id else {}
    kept = {name: tags[name] for name in _KEPT_TAGS if name in tags}
    lineage = {_CONVERTED_TAG: version.version, EVALUATION_TAG: judging.digest}
    ConvertedFolder(version.model, {**kept, **lineage}, done.metrics).write(target)
    return target


def _registry(settings: Settings, environ: Mapping[str, str]) -> tuple[ModelRegistry, dict[str, str]]:
    trainer = open_installation(settings, environ).trainer()
    return open_registry_as(settings, trainer), trainer


def _judging(registry: ModelRegistry, version: RegisteredVersion, named: str | None, into: Path) -> "list[_Rows]":
    """Return the evaluation set that judges a version, in a list; none where there is none."""
    if named:
        owners: list[Callable[[], RegisteredVersion]] = [lambda: registry.version(version.model, named)]
    else:
        aliases = registry.aliases(version.model)
        numbers = [aliases[alias] for alias in _JUDGING if alias in aliases]
        owners = [
            lambda: version,
            *(lambda number=number: registry.version(version.model, number) for number in numbers),
        ]
    for find in owners:
        owner = find()
        tags = registry.run_tags(owner.run_id) if owner.run_id else {}
        found = fetch_evaluation(registry, owner, tags, into)
        if found:
            return [_Rows(*found, owner.version)]
    if named:
        raise UsageError(f"version {named} has no evaluation rows", next="name one that has")
    return []


def _converted(jobs: JobRunner, version: RegisteredVersion, folder: Path, judging: _Rows) -> ConvertedVersion:
    name = f"version {version.version} of {version.model}"
    files = {f"{MODEL}/{path.name}": path for path in (folder / "source").iterdir() if path.is_file()}
    files[EVALUATION] = judging.path
    try:
        return ask(
            lambda task, given: jobs.run(task, given, _CONVERSION),
            ConversionTask(version=name, model=version.model),
            files,
            ConvertedVersion,
        )
    except JobFailed as failure:
        # The bounds of a conversion stand in no policy.
        raise NotServable(
            f"{name} can't be converted: {failure.message}",
            next="log it where it was fitted, with slipway.log_model: there nothing bounds its export",
        ) from failure
