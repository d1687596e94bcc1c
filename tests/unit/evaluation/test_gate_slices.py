"""Slices: a model that is bad in one part of the rows is stopped, and one that meets a hard part is not."""

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble
from threadpoolctl import threadpool_info, threadpool_limits

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Task
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.groups.bins import Binned, binned, bins_of
from pipelines.evaluation.gates.groups.moments import bounds_of, slices_of
from pipelines.evaluation.gates.groups.slices import SLICES
from pipelines.evaluation.gates.groups.yardstick import learned
from tests.support.world.answered import PLACES, answered, classes_of, visitors
from tests.support.world.records import policy


def results(measured: Any, **changes: Any) -> dict[str, GateResult]:
    return {each.name: each for each in SLICES.results(measured, policy(**changes))}


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("champion", [False, True])
def test_a_good_model_passes_with_its_worst_slices_told(task: Task, champion: bool) -> None:
    frame, truth, answers = visitors(task)
    found = results(answered(task, frame, truth, answers, champion=answers if champion else None))
    names = {"slices.mae"} if task is Task.REGRESSION else {"slices.error", "slices.log_loss"}
    assert {name: each.verdict for name, each in found.items()} == dict.fromkeys(names, Verdict.PASSED)
    for each in found.values():
        assert each.table is not None
        assert {len(row) for row in each.table.rows} == {len(each.table.columns)}
        assert ("by production" if champion else "by a model learned from these rows") in each.message


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("champion", [False, True])
def test_a_model_that_is_bad_in_one_slice_is_stopped_and_the_slice_named(task: Task, champion: bool) -> None:
    frame, truth, answers = visitors(task)
    inside = ((frame["place"] == PLACES[1]) & frame["member"]).to_numpy()
    bad = answers.copy()
    bad[inside] = answers[inside][:, ::-1] if answers.ndim > 1 else answers[inside] + 25
    found = results(answered(task, frame, truth, bad, champion=answers if champion else None))
    assert {each.verdict for each in found.values()} == {Verdict.FAILED}
    for each in found.values():
        assert f"place = {PLACES[1]} and member = true" in each.message
        assert each.interval is not None
        assert each.limit is not None
        assert each.interval[0] > each.limit


@pytest.mark.parametrize("champion", [False, True])
def test_a_slice_that_is_hard_for_everybody_stops_nobody_and_is_named(champion: bool) -> None:
    frame, truth, answers = visitors(Task.BINARY)
    hard = (frame["place"] == PLACES[1]).to_numpy()
    random = np.random.default_rng(5)
    truth[hard] = random.choice(["no", "yes"], int(hard.sum()))
    answers[hard] = 0.5 + 0.02 * (answers[hard] - 0.5)
    found = results(answered(Task.BINARY, frame, truth, answers, champion=answers if champion else None))
    assert {each.verdict for each in found.values()} == {Verdict.PASSED}
    assert "; hard also " in found["slices.error"].message
    assert f"place = {PLACES[1]}" in found["slices.error"].message


def test_what_all_rows_lose_is_not_told_of_slices() -> None:
    frame, truth, answers = visitors(Task.BINARY)
    worse = answers.copy()
    flipped = np.random.default_rng(2).random(len(frame)) < 0.15
    worse[flipped] = answers[flipped][:, ::-1]
    found = results(answered(Task.BINARY, frame, truth, worse, champion=answers))
    assert found["slices.error"].verdict is Verdict.PASSED


def test_a_champion_of_other_classes_is_no_yardstick() -> None:
    frame, truth, answers = visitors(Task.BINARY)
    measured = answered(Task.BINARY, frame, truth, answers, champion=answers, champion_classes=("no", "maybe"))
    assert "a model learned" in results(measured)["slices.error"].message


def test_rows_that_production_was_trained_on_are_left_out() -> None:
    frame, truth, answers = visitors(Task.BINARY)
    trained_on = np.arange(len(frame)) < 500
    found = results(answered(Task.BINARY, frame, truth, answers, champion=answers, champion_trained_on=trained_on))
    assert f"of {len(frame) - 500:,} rows" in found["slices.error"].message


@pytest.mark.parametrize(
    ("rows", "verdict", "said"),
    [(29, Verdict.INCONCLUSIVE, "on 29 evaluation rows, fewer than 30"), (35, Verdict.NOT_APPLICABLE, "no slice of")],
)
def test_too_few_rows_are_said(rows: int, verdict: Verdict, said: str) -> None:
    frame, truth, answers = visitors(Task.BINARY, rows=rows)
    (found,) = results(answered(Task.BINARY, frame, truth, answers)).values()
    assert (found.name, found.verdict) == ("slices", verdict)
    assert said in found.message


@pytest.mark.parametrize("task", list(Task))
def test_an_answer_that_is_no_number_is_an_error(task: Task) -> None:
    frame, truth, answers = visitors(task)
    answers[3] = np.nan
    (found,) = results(answered(task, frame, truth, answers)).values()
    assert (found.verdict, "not a finite number" in found.message) == (Verdict.ERROR, True)


@pytest.mark.parametrize("truth_of", ["one class", "one value"])
def test_rows_of_one_truth_are_judged_by_what_is_there(truth_of: str) -> None:
    task = Task.BINARY if truth_of == "one class" else Task.REGRESSION
    frame, truth, answers = visitors(task)
    truth[:] = truth[0]
    right = np.full_like(answers, 0.0) + truth[0] if task is Task.REGRESSION else classes_of(task, truth)
    found = results(answered(task, frame, truth, right))
    assert {each.verdict for each in found.values()} == {Verdict.PASSED}


def test_a_policy_says_how_much_and_how_small() -> None:
    frame, truth, answers = visitors(Task.BINARY)
    bad = answers.copy()
    inside = (frame["place"] == PLACES[1]).to_numpy()
    bad[inside] = answers[inside][:, ::-1]
    measured = answered(Task.BINARY, frame, truth, bad)
    generous = {"gates.slices.error_margin": 0.99, "gates.slices.log_loss_margin": 9.0}
    assert {each.verdict for each in results(measured, **generous).values()} == {Verdict.PASSED}
    (none,) = results(measured, **{"gates.slices.minimum_slice_share": 0.9}).values()
    assert (none.verdict, none.message) == (
        Verdict.NOT_APPLICABLE,
        "slices: no slice of the 1,500 rows has 1,350 of them",
    )


def test_every_kind_of_value_is_cut_into_bins() -> None:
    rows = 300
    numbers = [None if place % 10 == 0 else float(place) for place in range(rows)]
    columns: dict[str, tuple[FeatureType, list[Any]]] = {
        "number": (FeatureType.NUMBER, numbers),
        "few": (FeatureType.INTEGER, [place % 3 for place in range(rows)]),
        "category": (FeatureType.CATEGORY, [f"c{place % 20}" for place in range(rows)]),
        "flag": (FeatureType.BOOLEAN, [None if place % 7 == 0 else place % 2 == 0 for place in range(rows)]),
        "text": (FeatureType.TEXT, ["x" * (place % 40) for place in range(rows)]),
        "day": (FeatureType.DATE, [date(2020 + place % 3, 1, 1) for place in range(rows)]),
        "days of one year": (FeatureType.DATE, [date.fromordinal(737_500 + place) for place in range(rows)]),
        "nothing": (FeatureType.NUMBER, [None] * rows),
        "constant": (FeatureType.NUMBER, [1.0] * rows),
    }
    for name, (kind, values) in columns.items():
        found = bins_of(pd.Series(values, name=name), Feature(name, kind, nullable=True))
        assert sorted(set(found.codes)) == list(range(len(found.names))), name
        assert ("missing" in found.names) == (None in values), name
        assert len(found.names) <= 9, name
    few = bins_of(pd.Series(columns["few"][1]), Feature("few", FeatureType.INTEGER))
    assert few.names == ("0", "1", "2")
    assert bins_of(pd.Series(columns["day"][1]), Feature("day", FeatureType.DATE)).names == ("2020", "2021", "2022")


def test_slices_of_the_same_rows_are_one() -> None:
    frame = pd.DataFrame({"a": ["x", "y"] * 50, "b": ["p", "q"] * 50, "c": [1.0] * 100})
    kinds = {"a": FeatureType.CATEGORY, "b": FeatureType.CATEGORY, "c": FeatureType.NUMBER}
    found = slices_of(binned(frame, [Feature(name, kind) for name, kind in kinds.items()]), np.ones((1, 100)), 30)
    assert sorted(found.counts.tolist()) in ([50.0], [50.0, 50.0])


def test_counts_and_sums_of_slices_are_those_of_pandas() -> None:
    frame, _, _ = visitors(Task.BINARY)
    features = [Feature("place", FeatureType.CATEGORY), Feature("member", FeatureType.BOOLEAN)]
    weight = np.random.default_rng(1).random(len(frame))
    found = slices_of(binned(frame, features), weight[None, :], 2)
    for place, count in enumerate(found.counts):
        rows = np.ones(len(frame), dtype=bool)
        for condition in found.name(place).split(" and "):
            name, _, value = condition.partition(" = ")
            rows &= frame[name].astype(str).str.lower().to_numpy() == value.lower()
        assert count == rows.sum()
        assert found.sums[0, place] == pytest.approx(weight[rows].sum())


def test_of_hundreds_of_features_those_that_losses_differ_by_are_combined() -> None:
    random = np.random.default_rng(2)
    codes = random.integers(0, 4, (120, 2000))
    features = [Binned(f"f{at}", ("a", "b", "c", "d"), each) for at, each in enumerate(codes)]
    inside = (codes[5] == 1) & (codes[77] == 2)
    weight = random.random(2000) + 5.0 * inside
    found = slices_of(features, weight[None, :], 30)
    names = {found.name(place) for place in range(len(found.counts))}
    assert "f5 = b and f77 = c" in names
    assert {name.split(" = ")[0] for name in names if " and " not in name} == {each.feature for each in features}
    assert len(names) < 100 * 99 * 16 / 2 + 480 + 1
    # Those that were passed over count among what was looked at.
    assert found.of > 120 * 119 * 16 / 2


def test_the_learned_yardstick_takes_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    class Watched(ensemble.HistGradientBoostingClassifier):
        def fit(self, *args: Any, **more: Any) -> Any:
            threads.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp")
            return super().fit(*args, **more)

    monkeypatch.setattr(ensemble, "HistGradientBoostingClassifier", Watched)
    frame = pd.DataFrame({"key": np.arange(60.0)})
    with threadpool_limits(2, user_api="openmp"):
        learned(Task.BINARY, frame, (Feature("key", FeatureType.NUMBER),), np.array(["no", "yes"] * 30))
    assert set(threads) == {1}


def test_bounds_hold_the_true_mean_as_often_as_they_say() -> None:
    random = np.random.default_rng(3)
    values = random.normal(2.0, 1.0, (4000, 40))
    counts = np.full(4000, 40.0)
    found = bounds_of(counts, values.sum(axis=1), (values**2).sum(axis=1), values.ravel(), 0.05, against_the_rest=False)
    assert 0.93 < float((found.lower < 2.0).mean()) < 0.97


def test_the_learned_yardstick_knows_nothing_of_a_row_by_another_that_is_the_same() -> None:
    random = np.random.default_rng(4)
    identities = np.repeat(np.arange(60, dtype=np.uint64), 20)
    truth = np.repeat(random.choice(["no", "yes"], 60), 20)
    frame = pd.DataFrame({"key": np.repeat(random.normal(0, 1, 60), 20)})
    features = (Feature("key", FeatureType.NUMBER),)
    together = learned(Task.BINARY, frame, features, truth, identities)["error"].mean()
    by_values = learned(Task.BINARY, frame, features, truth)["error"].mean()
    blurred = frame + random.normal(0, 1e-9, frame.shape)
    apart = learned(Task.BINARY, blurred, features, truth)["error"].mean()
    assert apart + 0.2 < min(together, by_values)
