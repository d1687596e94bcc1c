"""The gate that tries a model before anything else runs it: what it takes is bounded, and known to be."""

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipelines.domain.description import Description
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.bundle.artifact_safety import ARTIFACT_SAFETY, ArtifactSafetyLimits, Reading, judge
from pipelines.evaluation.gates.offline.world import Offline, OpenedBundle
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription
from tests.support.world.bundles import make_bundle, read_description, with_model
from tests.support.world.costly_model import holding, working_on
from tests.support.world.records import policy
from tests.support.world.slow_model import fill_on, hang_on, slow_down

NEVER = 1e9


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("plain"))[0]


def judged(bundle: Path, change: Callable[[bytes], bytes], **limits: float) -> GateResult:
    """Return what the gate says of a bundle whose model is changed so."""
    import pandas as pd

    path, digest = with_model(bundle, change((bundle / "model.onnx").read_bytes()))
    nothing = Snapshot(pd.DataFrame(), SnapshotDescription("toy-model", "churned", "Yes", ("No", "Yes"), (), ()), "")
    opened = OpenedBundle(path, Description.read(read_description(path)), nothing)
    given = {f"gates.artifact_safety.{name}": limit for name, limit in limits.items()}
    (result,) = ARTIFACT_SAFETY.results(Offline(digest, opened, nothing), policy(**given))
    return result


def test_a_plain_model_passes_and_is_told_how_long_its_slowest_golden_row_took(plain: Path) -> None:
    result = judged(plain, lambda model: model, row_ms=60_000)

    assert result.verdict is Verdict.PASSED
    assert result.message == "PASS artifact_safety: standard operators, one file, golden rows within 60000 ms"
    assert result.observed is not None
    assert 0 < result.observed < result.limit == 60_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda model: hang_on(model, column="income", above=NEVER), "uses operator Loop"),
        (lambda model: fill_on(model, column="income", above=NEVER), "a tensor by operator ConstantOfShape"),
    ],
)
def test_what_no_golden_row_meets_fails_by_its_graph(plain: Path, change: Callable[[bytes], bytes], said: str) -> None:
    result = judged(plain, change)

    assert result.verdict is Verdict.FAILED
    assert result.message.startswith("FAIL: artifact_safety: the ONNX model ")
    assert said in result.message


def test_a_row_that_takes_too_long_is_ended_and_fails(plain: Path, tmp_path: Path) -> None:
    def slow(model: bytes) -> bytes:
        (tmp_path / "model.onnx").write_bytes(model)
        slow_down(tmp_path / "model.onnx", column="income", share=1.0, delay_ms=2000)
        return (tmp_path / "model.onnx").read_bytes()

    result = judged(plain, slow, row_ms=50)

    assert result.verdict is Verdict.FAILED
    assert result.message == "FAIL: artifact_safety: the ONNX model was ended after 50 ms of a processor"


def test_work_on_constants_is_within_the_time_of_a_row(plain: Path) -> None:
    result = judged(plain, lambda model: working_on(model, rounds=5000), row_ms=50)

    assert result.message == "FAIL: artifact_safety: the ONNX model was ended after 50 ms of a processor"


def test_a_model_that_holds_too_much_fails_and_the_job_has_its_own_bound_again(plain: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)

    result = judged(plain, lambda model: holding(model, megabytes=2000), memory_mb=256)

    assert result.verdict is Verdict.FAILED
    assert result.message == "FAIL: artifact_safety: the ONNX model needs more than 256 MB of memory to answer one row"
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    fitting = judged(plain, lambda model: holding(model, megabytes=64), memory_mb=256, row_ms=60_000)
    assert fitting.message.startswith("PASS"), fitting.message


@pytest.mark.parametrize(
    ("longest_ms", "verdict"),
    [(999.9, Verdict.PASSED), (1000.0, Verdict.PASSED), (1000.1, Verdict.FAILED), (np.inf, Verdict.FAILED)],
)
def test_a_row_may_take_as_long_as_the_limit(longest_ms: float, verdict: Verdict) -> None:
    (result,) = judge(Reading(None, longest_ms), ArtifactSafetyLimits())

    assert (result.verdict, result.observed, result.limit) == (verdict, longest_ms, 1000)
