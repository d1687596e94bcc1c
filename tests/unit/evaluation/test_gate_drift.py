"""What a version was trained on is compared with what production was: by effect sizes, so that rows do not decide."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from pipelines.domain.bundle import Feature, FeatureType, digest_of
from pipelines.domain.description import Task
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation
from pipelines.domain.report import Report
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation import drift
from pipelines.evaluation.gates.data.drift import DriftLimits, compared, judge
from pipelines.evaluation.gates.quality.metrics import auc_interval
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription, read_snapshot, write_snapshot
from tests.support.world.trained import EVALUATION_ROWS
from tests.support.world.world import MODEL, PRODUCTION, World

NUMBER = Feature("x", FeatureType.NUMBER)
ARTIFACT = "slipway/reference.parquet"


def reference(home: Path, tmp_path: Path, **columns: Any) -> bytes:
    """Return the reference of the plants with other values in some columns, each made of those of before."""
    kept = read_snapshot(home / "data/snapshots/reference.parquet")
    frame = kept.frame.assign(**{name: change(kept.frame[name]) for name, change in columns.items()})
    write_snapshot(tmp_path / "reference", frame, kept.description, kept.identities)
    return (tmp_path / "reference").read_bytes()


def gates(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    assert evaluation.report is not None
    return {gate["name"]: gate for gate in evaluation.report["gates"]}


def test_a_version_that_was_trained_on_drifted_data_is_stopped_and_its_feature_named(
    world: World, plants_home: Path, tmp_path: Path
) -> None:
    world.promoted(world.register())
    version = world.register(reference=reference(plants_home, tmp_path, height=lambda column: column + 35))
    evaluation = world.evaluated(version)
    assert (evaluation.state, evaluation.verdict) == (RunState.STOPPED, "failed")
    found = gates(evaluation)
    assert found["drift.features"]["message"].startswith("FAIL: drift.features: height=0.")
    assert "rows of the training against" in found["drift.features"]["message"]
    assert "of production's training" in found["drift.features"]["message"]
    assert found["drift.together"]["message"].startswith("FAIL: drift.together: AUC=0.")
    first = dict(
        zip(found["drift.features"]["table"]["columns"], found["drift.features"]["table"]["rows"][0], strict=True)
    )
    assert (first["feature"], first["type"], first["verdict"]) == ("height", "number", "drifted")
    assert float(first["now"]) == pytest.approx(float(first["before"]) + 35, abs=0.1)
    assert evaluation.error is not None
    assert "a column that is filled otherwise" in evaluation.error["next"]


def test_the_same_training_again_passes_with_and_without_a_champion(world: World) -> None:
    version = world.register()
    first = gates(world.evaluated(version))
    assert f"against {EVALUATION_ROWS} of the evaluation set" in first["drift.features"]["message"]
    world.promoted(version)
    again = gates(world.evaluated(world.register()))
    assert "=0.000 (0.000 to " in again["drift.features"]["message"]
    assert again["drift.together"]["observed"] == pytest.approx(0.5, abs=0.02)
    assert "target moved by 0.000" in again["drift.features"]["message"]


def test_a_version_without_rows_of_its_training_is_measured_by_none(world: World) -> None:
    found = gates(world.evaluated(world.register(reference=None)))
    assert found["drift.features"]["verdict"] == "not_applicable"
    assert "the version has logged no rows of its training" in found["drift.features"]["message"]


def test_of_a_champion_that_has_logged_no_rows_the_set_that_judged_it_stands_in(world: World) -> None:
    world.promoted(world.register(reference=None))
    found = gates(world.evaluated(world.register()))
    assert f"against {EVALUATION_ROWS} of the rows that production was judged by" in found["drift.features"]["message"]


def test_the_rows_of_production_are_those_that_were_pinned(world: World, plants_home: Path, tmp_path: Path) -> None:
    drifted = reference(plants_home, tmp_path, height=lambda column: column + 35)
    first = world.register()
    world.promoted(first)
    serving = world.services.serving(MODEL, PRODUCTION)
    assert serving is not None
    pinned = world.services.bundles.body(serving.bundle_digest)["provenance"]["datasets"]["reference"]
    assert pinned == digest_of((plants_home / "data/snapshots/reference.parquet").read_bytes())
    run = world.registry.version(MODEL, first).run_id
    world.registry.log_artifact(run, ARTIFACT, drifted)
    assert gates(world.evaluated(world.register()))["drift.features"]["verdict"] == "passed"

    # Another file than the one that was kept is none, and the one that the run holds now is not the pinned one.
    for kept in (world.services.workdir / "evaluation-sets").glob("*.reference"):
        kept.write_bytes(drifted)
    own = reference(plants_home, tmp_path, height=lambda column: column + 0.001)
    second = gates(world.evaluated(world.register(reference=own)))
    assert "of the rows that production was judged by" in second["drift.features"]["message"]


def test_rows_that_were_changed_after_the_pin_are_refused(world: World, plants_home: Path, tmp_path: Path) -> None:
    version = world.register()
    world.evaluated(version)
    run = world.registry.version(MODEL, version).run_id
    world.registry.log_artifact(run, ARTIFACT, reference(plants_home, tmp_path, age=lambda column: column + 1))
    evaluation = world.evaluated(version)
    assert evaluation.error is not None
    assert "was changed after it was pinned" in evaluation.error["message"]


def test_rows_that_are_logged_after_the_pin_say_nothing(world: World, plants_home: Path) -> None:
    version = world.register(reference=None)
    world.evaluated(version)
    run = world.registry.version(MODEL, version).run_id
    world.registry.log_artifact(run, ARTIFACT, (plants_home / "data/snapshots/reference.parquet").read_bytes())
    assert gates(world.evaluated(version))["drift.features"]["verdict"] == "not_applicable"


def test_a_file_that_is_no_reference_is_refused_at_packaging(world: World) -> None:
    named = world.evaluated(world.register(**{"slipway.dataset.reference_rows": digest_of(b"other")}))
    assert named.error is not None
    assert "slipway/reference.parquet of version 1 is not the one its run names" in named.error["message"]
    odd = world.evaluated(world.register(reference=b"no parquet"))
    assert odd.error is not None
    assert "reference.parquet is not a snapshot" in odd.error["message"]


def test_a_reference_of_another_task_is_refused_at_packaging(world: World, plants_home: Path, tmp_path: Path) -> None:
    kept = read_snapshot(plants_home / "data/snapshots/reference.parquet")
    description = replace(kept.description, task=Task.REGRESSION, classes=(), positive=None)
    write_snapshot(tmp_path / "other", kept.frame.assign(outcome=1.0), description)
    evaluation = world.evaluated(world.register(reference=(tmp_path / "other").read_bytes()))
    assert evaluation.error is not None
    assert "slipway/reference.parquet is of a regression model" in evaluation.error["message"]


def snapshot(frame: pd.DataFrame, *features: Feature, task: Task = Task.BINARY) -> Snapshot:
    """Return rows with a target that is the same on all of them, unless they have one."""
    target = 1.0 if task is Task.REGRESSION else "no"
    frame = frame if "y" in frame else frame.assign(y=target)
    classes, positive = ((), None) if task is Task.REGRESSION else (("no", "yes"), "yes")
    return Snapshot(frame, SnapshotDescription("m", "y", positive, classes, features, (), task), "sha256:x")


def judged(before: Snapshot, now: Snapshot, **limits: Any) -> dict[str, GateResult]:
    by = DriftLimits(**limits)
    return {result.name: result for result in judge(compared(before, now, by, against="it"), by)}


def normal(rows: int, seed: int, mean: float = 0.0) -> pd.DataFrame:
    return pd.DataFrame({"x": np.random.default_rng(seed).normal(mean, 1, rows)})


def test_more_rows_prove_a_small_drift_to_be_small() -> None:
    before, now = (snapshot(normal(60_000, seed, mean), NUMBER) for seed, mean in ((1, 0.0), (2, 0.1)))
    found = judged(before, now)
    assert {result.verdict for result in found.values()} == {Verdict.PASSED}
    assert found["drift.features"].interval is not None
    # It is certainly there, and certainly small.
    assert 0.02 < found["drift.features"].interval[0] < found["drift.features"].interval[1] < 0.07
    assert "(a sample: 20,000 of 60,000 before, 20,000 of 60,000 now)" in found["drift.features"].message


def test_a_large_distance_on_few_rows_is_not_proven() -> None:
    found = judged(snapshot(normal(40, 1), NUMBER), snapshot(normal(40, 3, 1.0), NUMBER))["drift.features"]
    assert found.observed is not None
    assert found.observed > 0.25
    assert (found.verdict, "not proven to be > 0.25" in found.message) == (Verdict.PASSED, True)


def test_fewer_rows_than_the_minimum_decide_nothing() -> None:
    found = judged(snapshot(normal(500, 1), NUMBER), snapshot(normal(29, 1, 9.0), NUMBER))
    assert [result.verdict for result in found.values()] == [Verdict.INCONCLUSIVE]
    assert "29 rows of the training against 500 of it, fewer than 30" in found["drift.features"].message


DAY, MOMENT = date(2025, 1, 1), datetime(2025, 1, 1, tzinfo=UTC)
DRIFTS: dict[str, tuple[Feature, list[Any], list[Any]]] = {
    "number": (NUMBER, [float(at) for at in range(200)], [float(at + 150) for at in range(200)]),
    "constant": (NUMBER, [5.0] * 200, [3.0] * 200),
    "zeros": (NUMBER, [0.0] * 180 + [1.0] * 20, [0.0] * 100 + [1.0] * 100),
    "integer": (Feature("x", FeatureType.INTEGER), [1, 2, 3, 4] * 50, [3, 4, 4, 4] * 50),
    "boolean": (Feature("x", FeatureType.BOOLEAN), [True, False] * 100, [True] * 190 + [False] * 10),
    "missing": (NUMBER, [1.0, 2.0] * 100, [1.0, 2.0, 1.0, np.nan] * 50),
    "missing flag": (Feature("x", FeatureType.BOOLEAN), [True, False] * 100, [True, False, None, None] * 50),
    "category": (Feature("x", FeatureType.CATEGORY), ["a", "b"] * 100, ["a", "b", "c", "c"] * 50),
    "missing category": (Feature("x", FeatureType.CATEGORY), ["a", "b"] * 100, ["a", "b", None, None] * 50),
    "text": (Feature("x", FeatureType.TEXT), ["word " * (at % 9) for at in range(200)], ["word " * 30] * 200),
    "all missing before": (NUMBER, [np.nan] * 200, [1.0, 2.0] * 100),
}  # fmt: skip


@pytest.mark.parametrize("name", DRIFTS)
def test_a_drift_of_any_type_is_seen_and_the_same_values_are_none(name: str) -> None:
    feature, before, now = DRIFTS[name]
    there, here = (pd.DataFrame({"x": pd.Series(values, dtype=None)}) for values in (before, now))
    found = judged(snapshot(there, feature), snapshot(here, feature))
    assert found["drift.features"].verdict is Verdict.FAILED, found["drift.features"].message
    same = judged(snapshot(there, feature), snapshot(there.sample(frac=1, random_state=1), feature))
    assert all(result.goes_on for result in same.values())
    assert same["drift.features"].observed == 0


@pytest.mark.parametrize(("kind", "first"), [(FeatureType.DATE, DAY), (FeatureType.DATETIME, MOMENT)])
def test_dates_go_on_and_are_shown_unless_the_policy_judges_them(kind: FeatureType, first: Any) -> None:
    time = Feature("t", kind)
    sides = []
    for at in (0, 300):
        times = [first + timedelta(days=at + number) for number in range(200)]
        sides.append(snapshot(normal(200, at).assign(t=times), NUMBER, time))
    shown = judged(*sides)
    assert {result.verdict for result in shown.values()} == {Verdict.PASSED}
    assert shown["drift.features"].table is not None
    rows = {row[0]: row for row in shown["drift.features"].table.rows}
    assert rows["t"][2] == pytest.approx(1.0, abs=0.05)
    assert rows["t"][-3:] == ("2025-04-10", "2026-02-04", "shown")
    by_policy = judged(*sides, times="judge")
    assert {result.verdict for result in by_policy.values()} == {Verdict.FAILED}


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        (FeatureType.DATE, (date(1, 1, 1), date(9999, 12, 31))),
        (FeatureType.DATETIME, (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))),
    ],
)
def test_dates_of_any_year_are_shown(kind: FeatureType, times: tuple[Any, Any]) -> None:
    time = Feature("t", kind)
    sides = [snapshot(normal(200, seed).assign(t=[value] * 200), NUMBER, time) for seed, value in enumerate(times)]
    table = judged(*sides)["drift.features"].table
    assert table is not None
    assert {row[0]: row for row in table.rows}["t"][-3:-1] == ("0001-01-01", "9999-12-31")


def test_what_has_changed_between_features_is_found_by_all_together_alone() -> None:
    features = (NUMBER, Feature("z", FeatureType.NUMBER))
    sides = []
    for seed, sign in ((1, 1), (2, -1)):
        frame = normal(800, seed)
        sides.append(snapshot(frame.assign(z=sign * frame["x"] + normal(800, seed + 5)["x"] * 0.3), *features))
    found = judged(*sides)
    assert found["drift.features"].verdict is Verdict.PASSED
    assert found["drift.together"].verdict is Verdict.FAILED
    assert found["drift.together"].observed == pytest.approx(0.97, abs=0.03)


def test_rows_of_both_sides_tell_nothing_of_either() -> None:
    frame = normal(301, 4)
    found = drift.apart(frame, frame, [NUMBER])
    assert found is not None
    assert found.auc == pytest.approx(0.5, abs=1e-9)
    # Of a training that has grown by a tenth, so much is new.
    grown = drift.apart(frame, pd.concat([frame, normal(30, 5)]), [NUMBER])
    assert grown is not None
    assert grown.auc == pytest.approx(0.5, abs=0.06)


def test_the_target_is_shown_and_not_judged() -> None:
    sides = [
        snapshot(normal(300, 1).assign(y=["yes", *["no"] * each] * (300 // (each + 1))), NUMBER) for each in (2, 9)
    ]
    found = judged(*sides)["drift.features"]
    assert found.verdict is Verdict.PASSED
    assert "; the target moved by 0.2" in found.message
    assert found.table is not None
    assert (found.table.rows[-1][0], found.table.rows[-1][-1]) == ("y (target)", "shown")
    regressions = [
        snapshot(normal(300, 1).assign(y=normal(300, 2, mean)["x"]), NUMBER, task=Task.REGRESSION) for mean in (0, 3)
    ]
    assert "; the target moved by 0." in judged(*regressions)["drift.features"].message


def test_features_of_one_side_alone_are_left_out_and_counted() -> None:
    text = Feature("label", FeatureType.TEXT)
    before = snapshot(normal(100, 1).assign(label="a"), NUMBER, text)
    now = snapshot(normal(100, 1).assign(label=1.0), NUMBER, replace(NUMBER, name="label"))
    found = judged(before, now)["drift.features"]
    assert (found.verdict, "1 features, " in found.message) == (Verdict.PASSED, True)
    assert found.message.endswith("; not on both sides: 1")
    (none,) = judged(snapshot(before.frame, text), now).values()
    assert (none.verdict, none.name) == (Verdict.NOT_APPLICABLE, "drift.features")
    assert "no feature that both sides have can be compared" in none.message


def test_the_worst_feature_is_the_first_and_the_measurement_the_same_every_time() -> None:
    features = [Feature(name, FeatureType.NUMBER) for name in ("self", "b c", "x")]
    frames = [pd.DataFrame({each.name: normal(300, at)["x"] + at * moved for at, each in enumerate(features)})
              for moved in (0.0, 0.4)]  # fmt: skip
    sides = [snapshot(frame, *features) for frame in frames]
    found = judged(*sides)
    assert found["drift.features"].table is not None
    assert [row[0] for row in found["drift.features"].table.rows] == ["x", "b c", "self", "y (target)"]
    assert judged(*sides) == found
    assert GateResult.from_dict(found["drift.features"].as_dict()) == found["drift.features"]


def test_few_rows_of_a_side_tell_no_forest_apart() -> None:
    same = pd.DataFrame({"x": [1.0] * 40})
    other = pd.DataFrame({"x": [2.0] * 40})
    found = judged(snapshot(same, NUMBER), snapshot(other, NUMBER))
    assert found["drift.features"].verdict is Verdict.FAILED
    assert found["drift.together"].verdict is Verdict.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("value", "freedom", "z"), [(30.0, 9, 1.96), (30.0, 9, -1.96), (500.0, 9, 2.8), (40.0, 1, 1.96), (9000.0, 20, 3.0)]
)
def test_the_noncentrality_is_the_one_of_scipy(value: float, freedom: int, z: float) -> None:
    found = drift._noncentrality(value, freedom, z)
    assert stats.ncx2.cdf(value, freedom, found) == pytest.approx(stats.norm.cdf(z), abs=2e-3)


def test_the_interval_of_a_distance_holds_the_true_one_and_nothing_where_nothing_moved() -> None:
    large = drift.distance(*drift.binned(normal(400_000, 8)["x"], normal(400_000, 9, 0.5)["x"], NUMBER))[0]
    missed = moved = 0
    for seed in range(200):
        for mean, truth in ((0.0, 0.0), (0.5, large)):
            sides = normal(150, seed)["x"], normal(120, 1000 + seed, mean)["x"]
            _, (low, high) = drift.distance(*drift.binned(*sides, NUMBER))
            missed += not low <= truth + 0.01 or not high >= truth - 0.01
            moved += low > 0.25
    assert missed <= 0.07 * 400
    assert moved <= 0.02 * 400


def test_the_interval_of_an_auc_has_a_width_at_its_end_and_is_hanley_and_mcneils_in_the_middle() -> None:
    low, high = auc_interval(1.0, 15, 15)
    assert low == pytest.approx(0.87, abs=0.01)
    assert high == 1.0
    low, high = auc_interval(0.8, 2000, 2000)
    error = np.sqrt(0.8 * 0.2 * (1 + 1999 * (0.2 / 1.2 + 0.8 / 1.8))) / 2000
    assert [low, high] == pytest.approx([0.8 - 1.96 * error, 0.8 + 1.96 * error], abs=1e-3)
    assert auc_interval(0.0, 15, 15) == pytest.approx((0.0, 1 - auc_interval(1.0, 15, 15)[0]))


def test_a_report_with_a_table_of_drift_reads_again(world: World) -> None:
    evaluation = world.evaluated(world.register())
    assert evaluation.report is not None
    report = Report.read(evaluation.report)
    (found,) = [each for each in report.gates if each.name == "drift.features"]
    assert found.table is not None
    assert {row[0] for row in found.table.rows} == {"height", "age", "potted", "soil", "outcome (target)"}


@pytest.mark.parametrize(
    ("kind", "end", "others"),
    [
        (FeatureType.DATE, date(9999, 12, 31), date(2020, 1, 1)),
        (FeatureType.DATETIME, datetime(9999, 12, 30, 12, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_beyond_those_of_pandas_are_measured_as_others_are(kind: FeatureType, end: Any, others: Any) -> None:
    arrow = pa.date32() if kind is FeatureType.DATE else pa.timestamp("us", tz="UTC")

    def side(ends: int) -> pd.DataFrame:
        values = pa.array([end] * ends + [others] * (200 - ends), arrow)
        frame: pd.DataFrame = pa.table({"until": values}).to_pandas()
        return frame

    (found,) = drift.moved(side(199), side(10), [Feature("until", kind)])

    assert (found.distance > 0.5, found.typical[0][:7], found.typical[1]) == (True, "9999-12", "2020-01-01")
