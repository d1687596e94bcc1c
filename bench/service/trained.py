"""Real versions of the project's model for benchmarks: trained, registered, and taken in as bundles."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.support.place import Place, running_stack
from bench.support.stages import run_module
from pipelines.domain.policy import EvaluationBounds
from pipelines.packaging.package import make_bundle
from pipelines.packaging.snapshot import read_snapshot
from pipelines.ports import JobBounds
from pipelines.settings.models import model_name
from pipelines.wiring.local import open_jobs
from pipelines.wiring.stores import open_bundles, open_registry
from pipelines.wiring.targets import open_installation

STAGES = ("prepare", "train", "score")
TRAINING_S = 300.0
# Regularisation of the versions: all good models, none the same.
STRENGTHS = (1.0, 0.3)


@dataclass(frozen=True)
class ServedBundle:
    """A bundle on disk, and the evaluation rows of its version as request bodies."""

    model: str
    digest: str
    path: Path
    rows: Sequence[dict[str, Any]]


def make_bundles(place: Place, count: int) -> list[ServedBundle]:
    """Return bundles of different versions by the way of every version; nothing runs when it returns."""
    with running_stack(place):
        versions = [train_version(place, strength) for strength in STRENGTHS[:count]]
        return [_package_version(place, version) for version in versions]


def train_version(place: Place, strength: float) -> str:
    """Train in a copy of the project's model and data, register, and return the version's number."""
    tree = place.workdir / f"tree-{strength:g}"
    project = place.settings.project
    described = yaml.safe_load((project / "model.yaml").read_text())
    source = described["source"]["path"]
    described["estimator"]["parameters"]["C"] = strength
    (tree / source).parent.mkdir(parents=True)
    shutil.copyfile(project / source, tree / source)
    (tree / "model.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    place.report_progress(f"training with C={strength:g}")
    for stage in STAGES:
        _run(place, f"pipelines.training.{stage}", "--root", str(tree))
    options = ("--tracking-uri", place.settings.mlflow_url, "--root", str(tree), "--git-root", str(project))
    registered = json.loads(_run(place, "pipelines.wiring.register", *options).splitlines()[-1])
    return str(registered["model_version"])


def evaluation_row(place: Place, strength: float) -> dict[str, Any]:
    """Return the first row that the version trained with `strength` was evaluated on, as a request body."""
    snapshot = read_snapshot(place.workdir / f"tree-{strength:g}" / "data/snapshots/evaluation.parquet")
    row = snapshot.features.head(1).to_dict(orient="records")[0]
    return {str(name): value for name, value in row.items()}


def _package_version(place: Place, version: str) -> ServedBundle:
    settings = place.settings
    registry, bundles = open_registry(settings), open_bundles(settings)
    jobs, limits = open_jobs(settings), EvaluationBounds()
    packaged = make_bundle(
        registry,
        bundles,
        lambda task, files: jobs.run(task, files, JobBounds(limits.job_s, limits.job_memory_mb)),
        registry.version(model_name(settings.project), version),
        pinned=None,
        fallback_evaluation=lambda: None,
        workdir=place.workdir / f"packaging-{version}",
    )
    rows = list(packaged.rows)
    return ServedBundle(packaged.body["model"], packaged.digest, bundles.path(packaged.digest), rows)


def _run(place: Place, module: str, *arguments: str) -> str:
    trainer = open_installation(place.settings, place.environ).trainer()
    return run_module(place, module, *arguments, environ=trainer, within_s=TRAINING_S)
