"""Robustness: small changes within what the service takes, and which models they lead astray."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Description, Task, label_text
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import NotServable
from pipelines.evaluation.gates.offline.world import Offline, OpenedBundle
from pipelines.evaluation.gates.robustness.perturbations import MISSING, NOISE, SWAPS, UNITS, perturbed
from pipelines.evaluation.gates.robustness.robustness import (
    ROBUSTNESS,
    Found,
    RobustnessLimits,
    changes_of,
    judge,
)
from pipelines.evaluation.gates.robustness.search import searched
from pipelines.packaging.onnx_model import Scores
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription
from tests.support.world.records import policy
from tests.support.world.typed_bundles import ROW, answer_of, make_typed_bundle

FEATURES = (
    Feature("x", FeatureType.NUMBER, minimum=-3.0, maximum=50.0, nullable=True),
    Feature("whole", FeatureType.INTEGER),
    Feature("kind", FeatureType.CATEGORY, categories=("a", "b", "c"), nullable=True),
    Feature("flag", FeatureType.BOOLEAN),
    Feature("day", FeatureType.DATE),
    Feature("same", FeatureType.NUMBER),
)
ROWS = 600
LIMITS = RobustnessLimits()


def values(rows: int = ROWS) -> dict[str, Any]:
    random = np.random.default_rng(1)
    return {
        "x": np.where(random.random(rows) < 0.1, np.nan, np.clip(random.normal(0, 1, rows), -3, 3)),
        "whole": np.round(random.normal(0, 40, rows)),
        "kind": random.choice(np.array(["a", "b", "c", ""], dtype=object), rows),
        "flag": (random.random(rows) < 0.5).astype(float),
        "day": np.round(random.normal(19_000, 300, rows)),
        "same": np.full(rows, 4.0),
    }


def sloped(steepness: float) -> Any:
    """Return a classifier whose answer turns over as often along x as it is steep."""

    def ask(given: Any) -> Scores:
        p = 0.5 + 0.5 * np.sin(steepness * np.nan_to_num(given["x"]) + 0.4)
        return Scores(np.column_stack([1 - p, p]), np.where(p > 0.5, "yes", "no").astype(object))

    return ask


def valued(steepness: float) -> Any:
    """Return a regression of that kind."""
    return lambda given: Scores(np.sin(steepness * np.nan_to_num(given["x"]) + 0.4)[:, None])


def judged(ask: Any, limits: RobustnessLimits = LIMITS, rows: int = ROWS, enough: float = 0.2) -> dict[str, GateResult]:
    kinds = changes_of(values(rows), FEATURES, ask, limits, enough=enough)
    return {each.name: each for each in judge(Found(kinds), limits)}


@pytest.mark.parametrize("model", [sloped, valued])
def test_a_smooth_model_passes_and_a_brittle_one_is_stopped(model: Any) -> None:
    smooth, brittle = judged(model(1.0)), judged(model(90.0))
    assert {each.verdict for each in smooth.values()} == {Verdict.PASSED}
    stopped = {name for name, each in brittle.items() if each.verdict is Verdict.FAILED}
    assert stopped == {"robustness.noise", "robustness.search"}
    assert brittle["robustness.noise"].message.startswith("FAIL: robustness.noise=0.")


def test_changes_stay_within_what_the_service_takes() -> None:
    before = values()
    found = perturbed(before, FEATURES, 3.0, np.random.default_rng(2))
    assert [each.kind for each in found] == [NOISE, MISSING, SWAPS, UNITS, UNITS, UNITS]
    for each in found:
        known = each.values["x"][~np.isnan(each.values["x"])]
        assert (known >= -3).all()
        assert (known <= 50).all()
        assert (each.values["whole"] == np.round(each.values["whole"])).all()
        assert set(each.values["kind"]) <= {"a", "b", "c", ""}
        assert set(each.values["flag"]) == {0.0, 1.0}
    noisy, missing, swapped, scaled = found[0], found[1], found[2], found[3]
    assert (np.isnan(noisy.values["x"]) == np.isnan(before["x"])).all()
    assert (noisy.values["same"] == 4.0).all()
    lost = (
        np.isnan(missing.values["x"]) & ~np.isnan(before["x"]),
        (missing.values["kind"] == "") & (before["kind"] != ""),
    )
    assert (lost[0].astype(int) + lost[1] == missing.changed).all()
    other = (swapped.values["kind"] != before["kind"]).astype(int) + (swapped.values["flag"] != before["flag"])
    assert (other == 1).all()
    assert not ((before["kind"] == "") & (swapped.values["kind"] != "")).any()
    grown = sum(
        (~np.isclose(scaled.values[name], before[name], equal_nan=True)).astype(int) for name in ("x", "whole", "same")
    )
    assert (grown == 1).all()


def test_the_search_finds_what_noise_does_not() -> None:
    found = judged(sloped(1.0))
    assert found["robustness.search"].observed is not None
    assert found["robustness.noise"].observed is not None
    assert found["robustness.search"].observed > found["robustness.noise"].observed
    before = values()
    worst = searched(before, FEATURES, 0.1, 3, sloped(1.0))
    moved = [worst.values[name] != before[name][: len(worst.changed)] for name in ("whole", "day", "kind", "flag")]
    assert not moved[2].any()
    assert not moved[3].any()
    assert sloped(1.0)(worst.values).labels is not None


def test_where_nothing_can_be_changed_a_kind_does_not_apply() -> None:
    constant = {"same": np.full(ROWS, 4.0), "only": np.full(ROWS, "a", dtype=object)}
    features = (
        Feature("same", FeatureType.NUMBER, minimum=4.0, maximum=4.0),
        Feature("only", FeatureType.CATEGORY, categories=("a",)),
    )

    def ask(given: Any) -> Scores:
        return Scores(np.tile([0.3, 0.7], (len(given["same"]), 1)), np.full(len(given["same"]), "yes", dtype=object))

    kinds = changes_of(constant, features, ask, LIMITS, enough=0)
    found = judge(Found(kinds), LIMITS)
    assert {each.verdict for each in found} == {Verdict.NOT_APPLICABLE}
    assert "possible in 0 rows, fewer than 30" in found[0].message


@pytest.mark.parametrize("where", [np.nan, np.inf])
def test_an_answer_that_is_no_number_fails_whatever_its_limit_is(where: float) -> None:
    def ask(given: Any) -> Scores:
        scores: Scores = sloped(1.0)(given)
        scores.numbers[np.abs(np.nan_to_num(given["x"])) > 3] = where
        return scores

    found = judged(ask)
    assert found["robustness.units"].verdict is Verdict.FAILED
    assert "answers are no finite numbers by one number times 10" in found["robustness.units"].message
    assert found["robustness.noise"].verdict is Verdict.PASSED


def test_a_policy_says_how_small_changes_are_and_how_many_answers_may_change() -> None:
    assert judged(sloped(90.0), replace_limits(noise=1, search=1))["robustness.noise"].verdict is Verdict.PASSED
    assert "shown only" in judged(sloped(1.0))["robustness.swaps"].message
    assert judged(sloped(1.0), replace_limits(noise_share=1))["robustness.noise"].verdict is Verdict.FAILED


def replace_limits(**changes: Any) -> RobustnessLimits:
    return LIMITS.model_copy(update=changes)


def world(directory: Path, task: Task, rows: int = 120) -> Offline:
    """Return what offline gates measure of a bundle with a feature of each type, some values missing."""
    path, digest = make_typed_bundle(directory, task)
    description = Description.read(json.loads((path / "bundle.json").read_bytes()))
    given = [
        ROW
        | {
            "label": 1000.0 * (number % 2) - 500 + number,
            "count": None if number % 4 == 0 else number,
            "day": (date(2024, 1, 1) + timedelta(days=number)).isoformat(),
        }
        for number in range(rows)
    ]
    truth = [answer_of(task, row)["prediction"] for row in given]
    target = truth if task is Task.REGRESSION else list(map(label_text, truth))
    frame = pd.DataFrame(given).assign(y=target)
    output, features = description.output, tuple(map(Feature.read, description.features))
    described = SnapshotDescription("typed-model", "y", output.positive, output.classes, features, (), task)
    snapshot = Snapshot(frame, described, "sha256:e")
    return Offline(digest, OpenedBundle(path, description, snapshot), snapshot)


@pytest.mark.parametrize("task", list(Task))
def test_a_served_model_of_each_task_is_asked_with_values_of_every_type(tmp_path: Path, task: Task) -> None:
    measured = world(tmp_path, task)
    found = {each.name: each for each in ROBUSTNESS.results(measured, policy())}
    assert set(found) == {f"robustness.{kind}" for kind in ("noise", "missing", "swaps", "units", "search")}
    assert all(each.table is not None and each.observed is not None for each in found.values())
    # A model that asks for the rest of a division is as brittle as can be, one that asks for a sum is not.
    wanted = Verdict.FAILED if task is Task.MULTICLASS else Verdict.PASSED
    assert found["robustness.noise"].verdict is wanted
    assert found == {each.name: each for each in ROBUSTNESS.results(measured, policy())}


def test_too_few_rows_decide_nothing(tmp_path: Path) -> None:
    (found,) = ROBUSTNESS.results(world(tmp_path, Task.REGRESSION, rows=29), policy())
    assert (found.verdict, "on 29 evaluation rows, fewer than 30" in found.message) == (Verdict.INCONCLUSIVE, True)


def test_a_model_that_fails_on_a_changed_request_is_an_error(tmp_path: Path) -> None:
    measured = world(tmp_path, Task.REGRESSION)
    _ = measured.candidate.judged

    class Failing:
        def fed(self, given: Any) -> Any:
            raise NotServable("the ONNX model fails on 120 rows: division by zero", next="export it anew")

    vars(measured.candidate)["model"] = Failing()
    (found,) = ROBUSTNESS.results(measured, policy())
    assert found.verdict is Verdict.ERROR
    assert "on requests that the service takes: the ONNX model fails on 120 rows" in found.message
