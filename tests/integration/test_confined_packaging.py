"""Files of strangers, read by real confined jobs: whatever they do, a version is refused with the bound it met."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipelines.adapters.jobs.process import ProcessJobs
from pipelines.adapters.storage.bundle_store import BundleStore
from pipelines.errors import NotServable
from pipelines.packaging.package import Packaged, make_bundle
from pipelines.ports import JobBounds
from pipelines.settings.settings import ROOT
from tests.support.world.bad_files import alias_bomb, endless_model, inflating_parquet, pickled
from tests.support.world.fakes import FakeModelRegistry
from tests.support.world.trained import EVALUATION_ROWS, trained

pytestmark = pytest.mark.timeout(240)

BOUNDS = JobBounds(wall_s=60, memory_mb=1024)
# The jobs of a test that has to meet it need not take long to do so.
SHORT = JobBounds(wall_s=5, memory_mb=1024)
TYPES = {"height": "double", "age": "long", "potted": "long", "soil": "string"}
# Evaluates a version, and tells what this process had to import for it.
EXECUTOR = """
import dataclasses, json, sys
from pathlib import Path
from pipelines.adapters.jobs.process import ProcessJobs
from pipelines.settings.settings import ROOT
from tests.support.world.world import make_world
home, plants = map(Path, sys.argv[1:])
world = make_world(home, plants)
world.services = dataclasses.replace(world.services, jobs=ProcessJobs(ROOT, home / "jobs"))
ended = world.evaluated(world.register())
readers = {"onnx", "onnxruntime", "pandas", "pyarrow", "pipelines.packaging.reading", "pipelines.packaging.onnx_model"}
print(json.dumps({"verdict": ended.verdict, "error": ended.error, "imported": sorted(readers & set(sys.modules))}))
"""


@pytest.fixture(scope="module")
def plants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("plants")).root


@dataclass
class Desk:
    """Takes one version in, by jobs that are real."""

    root: Path
    plants: Path

    def package(
        self,
        bounds: JobBounds,
        *,
        onnx: bytes | None = None,
        types: dict[str, str] = TYPES,
        evaluation: bytes | None = None,
        spoil: Callable[[Path], None] = lambda folder: None,
    ) -> Packaged:
        registry = FakeModelRegistry()
        fetch = registry.fetch_model

        def fetch_spoilt(version: object, into: Path) -> None:
            fetch(version, into)  # type: ignore[arg-type]
            spoil(into)

        registry.fetch_model = fetch_spoilt  # type: ignore[method-assign]
        registry.register(
            "plant-model",
            onnx=onnx or (self.plants / "models/model.onnx").read_bytes(),
            input_types=types,
            artifacts={
                "slipway/evaluation.parquet": evaluation
                or (self.plants / "data/snapshots/evaluation.parquet").read_bytes(),
                "slipway/predictions.parquet": (self.plants / "models/predictions.parquet").read_bytes(),
            },
            run_tags={},
        )
        jobs = ProcessJobs(ROOT, self.root / "jobs")
        return make_bundle(
            registry,
            BundleStore(self.root / "bundles"),
            lambda task, files: jobs.run(task, files, bounds),
            registry.newest("plant-model"),
            pinned=None,
            fallback_evaluation=lambda: None,
            workdir=self.root / "work",
        )


@pytest.fixture
def desk(tmp_path: Path, plants: Path) -> Desk:
    return Desk(tmp_path, plants)


def test_a_good_version_is_read_within_the_bounds(desk: Desk) -> None:
    packaged = desk.package(BOUNDS)

    assert set(packaged.rows[0]) == set(TYPES)
    assert len(packaged.rows) == EVALUATION_ROWS
    assert list((desk.root / "jobs").iterdir()) == []


def test_a_model_that_computes_for_hours_is_refused_at_the_end_of_its_time(desk: Desk) -> None:
    begun = time.monotonic()
    with pytest.raises(NotServable, match=r"(took longer than|used a processor for more than) 5 s") as refusal:
        desk.package(SHORT, onnx=endless_model(), types={"height": "double"})
    assert "evaluation.job_s" in refusal.value.next
    assert time.monotonic() - begun < BOUNDS.wall_s
    assert not (desk.root / "bundles").exists()


def test_rows_that_inflate_to_gigabytes_are_refused(desk: Desk) -> None:
    small = inflating_parquet()
    assert len(small) < 4 * 1024 * 1024
    with pytest.raises(NotServable, match="needed more than 640 MB of memory"):
        desk.package(replace(BOUNDS, memory_mb=640), evaluation=small)


def test_aliases_of_aliases_are_refused(desk: Desk) -> None:
    def spoil(folder: Path) -> None:
        (folder / "MLmodel").write_bytes(alias_bomb())

    with pytest.raises(NotServable, match="it has more than 20,000 parts, those that aliases stand for included"):
        desk.package(SHORT, spoil=spoil)


def test_a_pickle_under_another_name_is_never_opened(desk: Desk) -> None:
    with pytest.raises(NotServable, match=r"is not an ONNX model|refuses model\.onnx|the ONNX model answers"):
        desk.package(BOUNDS, onnx=pickled())


def test_an_evaluation_opens_no_file_of_a_stranger_in_the_executor(tmp_path: Path, plants: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXECUTOR, str(tmp_path), str(plants)],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"verdict": "passed", "error": None, "imported": []}
