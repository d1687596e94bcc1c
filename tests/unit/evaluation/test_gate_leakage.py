"""What tells the answers is stopped where that is proven, held where it is doubtful, and good data passes."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Description, Task, label_text
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.data import leakage
from pipelines.evaluation.gates.data.leakage import LEAKAGE, Leakage, LeakageLimits, Score
from pipelines.evaluation.gates.data.single_features import explained_interval, numbers_rows, of_classes, of_numbers
from pipelines.evaluation.gates.offline.world import Offline, OpenedBundle
from pipelines.packaging.onnx_model import Scores
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription
from tests.support.world.records import policy
from tests.support.world.typed_bundles import ROW, answer_of, make_typed_bundle
from tests.support.world.world import World

NUMBER = Feature("x", FeatureType.NUMBER)


def world(directory: Path, task: Task, rows: list[dict[str, Any]]) -> Offline:
    """Return what offline gates measure of a bundle, on rows whose target is a matter of chance."""
    path, digest = make_typed_bundle(directory, task)
    description = Description.read(json.loads((path / "bundle.json").read_bytes()))
    random = np.random.default_rng(0)
    classes = list(map(label_text, description.output.classes))
    target = random.normal(0, 1, len(rows)) if task is Task.REGRESSION else random.choice(classes, len(rows))
    output, features = description.output, tuple(map(Feature.read, description.features))
    described = SnapshotDescription("typed-model", "y", output.positive, output.classes, features, (), task)
    snapshot = Snapshot(pd.DataFrame(rows).assign(y=target), described, "sha256:e")
    return Offline(digest, OpenedBundle(path, description, snapshot), snapshot)


def results(measured: Offline, **limits: Any) -> dict[str, GateResult]:
    changes = {f"gates.leakage.{key}": value for key, value in limits.items()}
    return {result.name: result for result in LEAKAGE.results(measured, policy(**changes))}


def varied(rows: int, /, **columns: list[Any]) -> list[dict[str, Any]]:
    """Return rows of every type with few values of each, in which some columns are given."""
    random = np.random.default_rng(1)
    drawn = {
        "count": random.integers(0, 9, rows).tolist(),
        "label": random.normal(-100, 900, rows).tolist(),
        "words": random.choice(["hello", "good bye", None], rows).tolist(),
        "net weight": [None if number % 5 == 0 else number / 7 for number in range(rows)],
        **columns,
    }
    return [ROW | {name: values[at] for name, values in drawn.items()} for at in range(rows)]


@pytest.mark.parametrize("task", list(Task))
def test_rows_that_tell_nothing_pass_in_every_task(tmp_path: Path, task: Task) -> None:
    found = results(world(tmp_path, task, varied(240)))
    assert {result.verdict for result in found.values()} == {Verdict.PASSED}, found
    assert set(found) == {f"leakage.{part}" for part in ("duplicates", "features", "ids", "constant", "perfect")}


@pytest.mark.parametrize("task", list(Task))
def test_a_feature_that_holds_the_answer_is_stopped(tmp_path: Path, task: Task) -> None:
    measured = world(tmp_path, task, varied(1500))
    target = measured.snapshot.target
    label = target if task is Task.REGRESSION else target.astype("category").cat.codes.astype(float) * 2 - 7
    frame = measured.snapshot.frame.assign(label=label)
    snapshot = replace(measured.snapshot, frame=frame)
    leaking = replace(measured, snapshot=snapshot, candidate=replace(measured.candidate, snapshot=snapshot))
    found = results(leaking)["leakage.features"]
    metric = "R2" if task is Task.REGRESSION else "AUC"
    assert found.verdict is Verdict.FAILED
    assert found.message.startswith(f"FAIL: leakage.features: label alone has {metric}=1.0000")
    assert found.table is not None
    assert (found.table.rows[0][0], found.table.rows[0][-1], found.table.rows[1][-1]) == (
        "label", "knows too much", "plausible",
    )  # fmt: skip


def test_an_id_that_the_model_looks_at_is_stopped(tmp_path: Path) -> None:
    order = np.random.default_rng(2).permutation(200)
    rows = varied(200, count=(order + 7000).tolist(), words=[f"c{number:05d}" for number in order])
    found = results(world(tmp_path, Task.REGRESSION, rows))["leakage.ids"]
    assert found.verdict is Verdict.FAILED
    assert "leakage.ids: count: a value of its own in nearly each of 200 rows" in found.message
    # No answer of this model changes by a word that it does not know.
    unused = varied(200, words=[f"c{number:05d}" for number in order])
    passed = results(world(tmp_path, Task.REGRESSION, unused))["leakage.ids"]
    assert (passed.verdict, "(words: no answer changes by it)" in passed.message) == (Verdict.PASSED, True)


def test_a_model_that_answers_the_same_to_all_is_stopped(tmp_path: Path) -> None:
    rows = varied(100, label=[1e6 + number for number in range(100)])
    found = results(world(tmp_path, Task.BINARY, rows))["leakage.constant"]
    assert (found.verdict, found.message) == (
        Verdict.FAILED, "FAIL: leakage.constant: it answers the same to all of 100 rows",
    )  # fmt: skip


def test_a_model_that_is_never_wrong_is_held_and_stopped_where_that_is_proven(tmp_path: Path) -> None:
    for rows, verdict in ((100, Verdict.PASSED), (300, Verdict.INCONCLUSIVE), (1200, Verdict.FAILED)):
        measured = world(tmp_path, Task.BINARY, varied(rows, count=[0] * rows, words=["x"] * rows))
        frame = measured.snapshot.frame
        given = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
        truth = [label_text(answer_of(Task.BINARY, row)["prediction"]) for row in given]
        snapshot = replace(measured.snapshot, frame=frame.assign(y=truth))
        perfect = replace(measured, snapshot=snapshot, candidate=replace(measured.candidate, snapshot=snapshot))
        if min(truth.count(each) for each in ("true", "false")) < 30:
            pytest.fail("the rows have too few of one class")
        assert results(perfect)["leakage.perfect"].verdict is verdict


def test_a_regression_that_is_never_wrong_is_stopped(tmp_path: Path) -> None:
    measured = world(tmp_path, Task.REGRESSION, varied(60))
    frame = measured.snapshot.frame
    given = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
    snapshot = replace(
        measured.snapshot, frame=frame.assign(y=[answer_of("regression", row)["prediction"] for row in given])
    )
    found = results(replace(measured, snapshot=snapshot, candidate=replace(measured.candidate, snapshot=snapshot)))
    assert found["leakage.perfect"].verdict is Verdict.FAILED


def test_answers_that_are_no_numbers_are_an_error_and_few_rows_decide_nothing(tmp_path: Path) -> None:
    measured = world(tmp_path, Task.REGRESSION, varied(40))
    few = results(measured, minimum_rows=41)
    assert [result.verdict for result in few.values()] == [Verdict.PASSED, Verdict.INCONCLUSIVE]
    # What an opened bundle was asked once is not asked again.
    measured.candidate.__dict__["judged"] = np.ones(40, dtype=bool), Scores(np.full((40, 1), np.nan), None)
    odd = results(measured)
    assert [result.verdict for result in odd.values()] == [Verdict.PASSED, Verdict.ERROR]
    assert odd["leakage.constant"].message == "ERROR: leakage.constant: an answer is not a finite number"


def test_rows_that_are_there_twice_or_were_trained_on_are_shown(tmp_path: Path) -> None:
    measured = world(tmp_path, Task.BINARY, varied(50))
    frame = pd.concat([measured.snapshot.frame, measured.snapshot.frame.head(7)], ignore_index=True)
    trained_on = np.arange(57) < 4
    snapshot = replace(measured.snapshot, frame=frame)
    candidate = replace(measured.candidate, snapshot=snapshot, trained_on=trained_on)
    found = results(replace(measured, snapshot=snapshot, candidate=candidate))["leakage.duplicates"]
    said = "of 57 evaluation rows 7 are equal to one before them, and 4 are ones that it was trained on"
    assert (found.verdict, found.message) == (
        Verdict.PASSED, f"PASS leakage.duplicates: {said} (shown, not judged)",
    )  # fmt: skip


def test_the_plants_pass(world: World) -> None:
    evaluation = world.evaluated(world.register())
    assert evaluation.report is not None
    found = {gate["name"]: gate for gate in evaluation.report["gates"] if gate["name"].startswith("leakage.")}
    assert {gate["verdict"] for gate in found.values()} == {"passed"}
    assert " alone has AUC=0." in found["leakage.features"]["message"]


def alone(values: Any, truth: Any, feature: Feature = NUMBER) -> tuple[float, tuple[float, float]]:
    found = of_classes(pd.Series(values), feature, np.asarray(truth), 0.95)
    assert found is not None
    return found.score, found.interval


def test_a_feature_may_tell_the_class_in_any_way() -> None:
    random = np.random.default_rng(3)
    values = random.normal(0, 1, 1200)
    outside = (np.abs(values) > 1).astype(int)
    assert alone(-values, (values > 0).astype(int))[0] == 1
    assert alone(values, outside)[0] > 0.95
    missing = np.where(outside == 1, np.nan, 1.0)
    assert alone(missing, outside)[0] > 0.999
    category, text = Feature("x", FeatureType.CATEGORY), Feature("x", FeatureType.TEXT)
    assert alone(np.where(outside == 1, "b", "a"), outside, category)[0] > 0.999
    assert alone(np.where(outside == 1, "yes", "not"), outside, text)[0] > 0.999
    assert alone(np.where(outside == 1, "a long one", "short"), outside, text)[0] > 0.999


def test_a_value_of_its_own_for_each_row_tells_no_class() -> None:
    truth = np.random.default_rng(4).integers(0, 2, 600)
    texts = [f"row {number}" for number in range(600)]
    assert alone(texts, truth, Feature("x", FeatureType.CATEGORY))[0] == pytest.approx(0.5, abs=0.08)


def test_of_several_classes_the_one_that_is_told_worst_counts() -> None:
    truth = np.repeat([0, 1, 2], 300)
    # It tells the first class from the others, as the petals of one kind of iris do, and not these from one another.
    values = np.where(truth == 0, 0.0, 5.0) + np.random.default_rng(5).normal(0, 1e-3, 900)
    assert alone(values, truth)[0] < 0.8
    assert of_classes(pd.Series([1.0] * 12), NUMBER, np.array([0] * 11 + [1]), 0.95) is None


def test_a_feature_of_a_regression_is_measured_in_any_way() -> None:
    values = np.random.default_rng(6).normal(0, 1, 500)
    for truth in (3 * values + 1, np.exp(values)):
        assert of_numbers(pd.Series(values), NUMBER, truth, 0.95).interval[0] > 0.99
    assert of_numbers(pd.Series(values), NUMBER, values**2, 0.95).score > 0.6
    noise = of_numbers(pd.Series(values), NUMBER, values[::-1].copy(), 0.95)
    assert (noise.score < 0.05, noise.interval[0]) == (True, pytest.approx(0, abs=0.01))
    assert of_numbers(pd.Series([1.0] * 40), NUMBER, values[:40], 0.95).score == 0
    assert explained_interval(0.81, 103) == pytest.approx((0.8555**2, 0.9318**2), abs=2e-3)


INTEGER, TEXT, CATEGORY = (Feature("x", kind) for kind in (FeatureType.INTEGER, FeatureType.TEXT, FeatureType.CATEGORY))
DRAW = np.random.default_rng(7)


@pytest.mark.parametrize(
    ("values", "feature", "is_id"),
    [
        (DRAW.choice(1000, 200, replace=False).tolist(), INTEGER, True),
        (DRAW.integers(0, 1000, 200).tolist(), INTEGER, False),
        (DRAW.normal(50_000, 20_000, 200).astype(int).tolist(), INTEGER, False),
        (DRAW.choice(10**7, 200, replace=False).tolist(), INTEGER, False),
        ([1, 2, 3, 4] * 50, INTEGER, False),
        ([f"{number:08x}" for number in range(200)], TEXT, True),
        ([f"a review of {number} words" for number in range(200)], TEXT, False),
        ([f"shop {number}" for number in range(200)], CATEGORY, True),
        ([f"shop {number % 40}" for number in range(200)], CATEGORY, False),
        (DRAW.normal(0, 1, 200).tolist(), NUMBER, False),
        (list(range(29)), INTEGER, False),
        ([None] * 200, INTEGER, False),
    ],
)
def test_an_id_is_told_from_a_number_that_happens_to_be_different(
    values: list[Any], feature: Feature, is_id: bool
) -> None:
    assert numbers_rows(pd.Series(values), feature, 30) is is_id


def test_a_flag_of_many_rows_is_looked_at_in_little_memory() -> None:
    # Half of the pairs of rows are equal, as by chance: there are as many of these as rows, squared.
    flags = pd.Series(np.arange(4000) % 2)
    tracemalloc.start()
    try:
        assert not numbers_rows(flags, INTEGER, 30)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("rows", "verdict"), [(30, "passed"), (250, "inconclusive"), (1400, "failed")])
def test_a_perfect_feature_is_stopped_where_it_is_proven_and_held_where_rows_are_many(rows: int, verdict: str) -> None:
    truth = np.arange(rows) % 2
    found = of_classes(pd.Series(truth + 0.5), NUMBER, truth, 0.95)
    assert found is not None
    measured = Leakage(rows, rows, 0, 0, rows, rows // 2, [found], score=Score("R2", 0.5, (0.4, 0.6), 0.99))
    (judged,) = [each for each in leakage.judge(measured, LeakageLimits()) if each.name == "leakage.features"]
    assert judged.verdict == verdict


@pytest.mark.parametrize("load", [datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer])
def test_the_sane_sets_that_people_begin_with_have_no_feature_that_knows_too_much(load: Any) -> None:
    data = load(as_frame=True)
    rows = np.random.default_rng(8).permutation(len(data.frame))[: max(30, len(data.frame) // 5)]
    frame, truth = data.data.iloc[rows], data.target.to_numpy()[rows]
    features = [Feature(name, FeatureType.NUMBER) for name in frame.columns]
    measured, found = leakage._alone(frame, features, truth, truth)
    summed = Leakage(measured, measured, 0, 0, measured, int(np.bincount(truth).min()), found)
    (judged,) = [each for each in leakage.judge(summed, LeakageLimits()) if each.name == "leakage.features"]
    assert judged.goes_on
