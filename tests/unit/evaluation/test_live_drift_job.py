"""Requests of every type are compared with a training in a confined job, missing values and all."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Answer
from pipelines.domain.live_drift import Moves
from pipelines.domain.release import Environment
from pipelines.errors import NotServable
from pipelines.evaluation.live_drift import LiveDriftTask, ask_live_drift
from pipelines.live.request_files import Pulled, RequestFiles, write_features
from pipelines.live.told import Sampled
from pipelines.packaging.snapshot import SnapshotDescription, write_snapshot
from pipelines.ports import JobBounds
from tests.support.world.fakes import FakeJobs

FIRST = datetime(2025, 1, 1, tzinfo=UTC)
VALUES: dict[FeatureType, Any] = {
    FeatureType.INTEGER: lambda at: at % 9,
    FeatureType.NUMBER: lambda at: at % 13 / 7,
    FeatureType.BOOLEAN: lambda at: at % 3 == 0,
    FeatureType.CATEGORY: lambda at: "xyz"[at % 3],
    FeatureType.TEXT: lambda at: "w" * (at % 9),
    FeatureType.DATE: lambda at: date(2025, 1, 1) + timedelta(days=at % 60),
    FeatureType.DATETIME: lambda at: FIRST + timedelta(hours=at % 60),
}
MORE: dict[FeatureType, dict[str, Any]] = {
    FeatureType.CATEGORY: {"categories": ("x", "y", "z")},
    FeatureType.TEXT: {"maximum_length": 9},
}
FEATURES = [Feature(kind.value, kind, nullable=True, **MORE.get(kind, {})) for kind in VALUES]
ROWS = 360


def value(feature: Feature, at: int, missing: FeatureType | None) -> Any:
    """Return a value, missing now and then, and of one type in half of the rows."""
    every = 2 if feature.type is missing else 17
    return None if at % every == 0 else VALUES[feature.type](at)


def measured(tmp_path: Path, *, missing: FeatureType | None = None, trained_on: bytes | None = None) -> Moves:
    kinds = {FeatureType.DATETIME: "datetime64[us, UTC]", FeatureType.INTEGER: float, FeatureType.NUMBER: float}
    columns = {
        each.name: pd.Series([value(each, at, None) for at in range(ROWS)], dtype=kinds.get(each.type, object))
        for each in FEATURES
    }
    description = SnapshotDescription("m", "y", "yes", ("no", "yes"), tuple(FEATURES), ())
    write_snapshot(tmp_path / "trained", pd.DataFrame(columns).assign(y="no"), description)
    if trained_on is not None:
        (tmp_path / "trained").write_bytes(trained_on)
    rows = [
        Sampled(at, FIRST, f"r{at}", 0, Answer(prediction="no", probability=0.5),
                tuple(value(each, at, missing) for each in FEATURES))
        for at in range(ROWS)
    ]  # fmt: skip
    files = RequestFiles(tmp_path)
    files.add(Pulled("m", Environment.PRODUCTION, "1", "0" * 16, FEATURES, rows))
    spread = files.spread("m", Environment.PRODUCTION, "1", FIRST, ROWS)
    assert spread is not None
    write_features(spread.table, tmp_path / "asked")

    def run(task: bytes, given: Mapping[str, Path]) -> bytes:
        return FakeJobs(tmp_path / "jobs").run(task, given, JobBounds(wall_s=60, memory_mb=2048))

    task = LiveDriftTask(features=tuple(each.written() for each in FEATURES), judge_times=True, minimum_rows=30)
    return ask_live_drift(run, task, trained_on=tmp_path / "trained", asked=tmp_path / "asked")


def test_the_same_rows_have_not_moved_whatever_their_types(tmp_path: Path) -> None:
    found = measured(tmp_path)

    assert {each.name: each.distance.value for each in found.features} == {each.name: 0 for each in FEATURES}
    assert {each.missing_now for each in found.features} == {each.missing_before for each in found.features}
    assert found.together is not None and found.together.low < 0.5


@pytest.mark.parametrize("kind", VALUES)
def test_values_that_are_missing_now_are_seen_in_every_type(tmp_path: Path, kind: FeatureType) -> None:
    first = measured(tmp_path, missing=kind).features[0]

    assert first.name == kind.value and first.distance.low > 0.25
    assert first.missing_now == pytest.approx(0.5, abs=0.05)


def test_a_training_that_nobody_can_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotServable, match="is not a snapshot"):
        measured(tmp_path, trained_on=b"no parquet")
