"""Gates of models of several classes and of regressions, on bundles and on plain numbers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as reference

from pipelines.domain.bundle import Feature
from pipelines.domain.description import Description, Task, label_text
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.bundle.golden_rows import GOLDEN_ROWS
from pipelines.evaluation.gates.bundle.parity import PARITY
from pipelines.evaluation.gates.offline.world import Offline, OpenedBundle
from pipelines.evaluation.gates.quality import calibration, comparison, differences, metrics, r2, shares
from pipelines.evaluation.gates.quality.accuracy import ACCURACY
from pipelines.evaluation.gates.quality.answers import Unmeasured
from pipelines.evaluation.gates.quality.comparison import COMPARISON, ComparisonLimits
from pipelines.evaluation.gates.quality.r2 import R2
from pipelines.evaluation.gates.quality.shares import Share
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription
from tests.support.world.records import policy
from tests.support.world.typed_bundles import ROW, answer_of, make_typed_bundle

# There are 18 rows.
FEW = {f"gates.{name}.minimum_rows": 18 for name in ("accuracy", "r2", "comparison")}
LIMITS = ComparisonLimits(margin=0.01, relative_margin=0.02)
# Of two classes, as many as tell something of an AUC.
ENOUGH = 20


def rows_of(count: int) -> list[dict[str, Any]]:
    return [ROW | {"label": 7.0 * number, "count": None if number % 4 == 0 else number} for number in range(count)]


ROWS = rows_of(18)


def world(
    directory: Path, task: Task, *, predictions: pd.DataFrame | None = None, off: float = 0.0, count: int = len(ROWS)
) -> Offline:
    """Return what offline gates measure of a bundle that is its own champion, on rows that it answers rightly."""
    path, digest = make_typed_bundle(directory, task)
    description = Description.read(json.loads((path / "bundle.json").read_bytes()))
    rows = rows_of(count)
    if task is Task.BINARY:
        # Sums on both sides of 0.
        rows = [row | {"label": -200.0 * (number % 2)} for number, row in enumerate(rows)]
    truth = [answer_of(task, row)["prediction"] for row in rows]
    target = [value + off for value in truth] if task is Task.REGRESSION else list(map(label_text, truth))
    frame = pd.DataFrame(rows).assign(y=target)
    output, features = description.output, tuple(map(Feature.read, description.features))
    described = SnapshotDescription("typed-model", "y", output.positive, output.classes, features, (), task)
    snapshot = Snapshot(frame, described, "sha256:e")
    bundle = OpenedBundle(path, description, snapshot)
    return Offline(digest, bundle, snapshot, predictions, bundle)


def verdicts(results: list[GateResult]) -> dict[str, Verdict]:
    return {result.name: result.verdict for result in results}


@pytest.mark.parametrize(
    ("task", "compared"),
    [
        (Task.BINARY, {"comparison", "comparison.log_loss", "comparison.accuracy"}),
        (
            Task.MULTICLASS,
            {"comparison.auc", "comparison.f1", "comparison.log_loss", "comparison.accuracy"},
        ),
        (Task.REGRESSION, {"comparison.rmse", "comparison.mae", "comparison.r2"}),
    ],
)
def test_each_task_is_measured_by_its_own_metrics(tmp_path: Path, task: Task, compared: set[str]) -> None:
    measured = world(tmp_path, task, count=ENOUGH)
    assert verdicts(COMPARISON.results(measured, policy(**FEW))) == dict.fromkeys(compared, Verdict.PASSED)
    assert verdicts(GOLDEN_ROWS.results(measured, policy())) == {"golden_rows": Verdict.PASSED}
    quality = {**verdicts(ACCURACY.results(measured, policy(**FEW))), **verdicts(R2.results(measured, policy(**FEW)))}
    applies, other = ("r2", "accuracy") if task is Task.REGRESSION else ("accuracy", "r2")
    assert quality == {applies: Verdict.PASSED, other: Verdict.NOT_APPLICABLE}


def test_a_regression_that_explains_nothing_is_stopped(tmp_path: Path) -> None:
    (result,) = R2.results(world(tmp_path, Task.REGRESSION, off=1e6), policy(**FEW))
    assert result.verdict is Verdict.FAILED
    assert result.message.startswith("FAIL: r2=-")


def test_rows_that_a_regression_would_refuse_are_counted(tmp_path: Path) -> None:
    measured = world(tmp_path, Task.REGRESSION)
    frame = measured.snapshot.frame.copy()
    frame.loc[0, "net weight"] = -9.0
    snapshot = replace(measured.snapshot, frame=frame)
    strange = replace(measured, snapshot=snapshot, candidate=replace(measured.candidate, snapshot=snapshot))
    (result,) = R2.results(strange, policy(**{"gates.r2.minimum_rows": 17}))
    assert result.verdict is Verdict.PASSED
    assert result.message.endswith(" (1 more rows are none that it takes)")


@pytest.mark.parametrize("whose", ["candidate", "champion"])
def test_a_former_set_of_which_nobody_knows_who_was_trained_on_it_decides_nothing(tmp_path: Path, whose: str) -> None:
    former = world(tmp_path, Task.REGRESSION)
    known = replace(former.candidate, trained_on=np.zeros(len(ROWS), dtype=bool))
    former = replace(former, candidate=known, champion=known)
    lacking = replace(former.snapshot, frame=former.snapshot.frame.drop(columns="label"))
    bundle = replace(known, snapshot=lacking)
    measured = Offline(former.digest, bundle, lacking, None, bundle, accepted=former)
    assert set(verdicts(COMPARISON.results(measured, policy(**FEW))).values()) == {Verdict.PASSED}
    changes: dict[str, Any] = {whose: replace(known, trained_on=None)}
    unknown = replace(former, **changes)
    (result,) = COMPARISON.results(replace(measured, accepted=unknown), policy(**FEW))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert f"unknown on which rows the {whose} was trained of the set that production was judged by" in result.message


@pytest.mark.parametrize(
    ("values", "verdict", "said"),
    [
        ([], Verdict.INCONCLUSIVE, "no evaluation rows"),
        ([3.0, 3.0], Verdict.INCONCLUSIVE, "one value only"),
        ([1.0, np.nan], Verdict.ERROR, "not a finite"),
    ],
)
def test_r2_that_is_not_defined_decides_nothing(values: list[float], verdict: Verdict, said: str) -> None:
    truth = [1.0, 2.0] if np.isnan(values).any() else values
    (result,) = r2.judge(r2.explained(np.array(truth), np.array(values)), r2.R2Limits())
    assert (result.verdict, said in result.message) == (verdict, True)


def test_an_accuracy_beside_probabilities_that_are_no_numbers_is_an_error(tmp_path: Path) -> None:
    measured = world(tmp_path, Task.BINARY)
    rows, scores = measured.candidate.asked
    numbers = scores.numbers.copy()
    numbers[0] = np.nan
    odd = replace(measured.candidate)
    vars(odd)["asked"] = (rows, replace(scores, numbers=numbers))
    (result,) = ACCURACY.results(replace(measured, candidate=odd), policy(**FEW))
    assert (result.verdict, result.message) == (
        Verdict.ERROR,
        "ERROR: accuracy: a probability is not a finite number",
    )


@pytest.mark.parametrize("value", [0.1, 123.456])
def test_a_target_of_one_value_decides_nothing_however_its_mean_is_rounded(value: float) -> None:
    truth = np.full(100, value)
    draw = np.random.default_rng(1)
    ours, theirs = (truth + draw.normal(0, 0.01, 100) for _ in range(2))
    found = calibration.bias(truth, ours)
    assert isinstance(found, Unmeasured)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert metrics.r2(truth, ours) is None
    assert isinstance(differences.compare(Task.REGRESSION, ours, theirs, truth)["r2"], Unmeasured)


@pytest.mark.parametrize("task", [Task.MULTICLASS, Task.REGRESSION])
def test_parity_is_held_in_the_columns_of_the_task(tmp_path: Path, task: Task) -> None:
    answers = [answer_of(task, row) for row in ROWS]
    if task is Task.REGRESSION:
        right = pd.DataFrame({"value": [answer["prediction"] for answer in answers]})
        wrong = right * (1 + 2e-5)
    else:
        columns = [{f"probability:{text}": p for text, p in answer["probabilities"].items()} for answer in answers]
        right = pd.DataFrame(columns).assign(label=[str(answer["prediction"]) for answer in answers])
        wrong = right.assign(label="0")
    assert verdicts(PARITY.results(world(tmp_path, task, predictions=right), policy())) == {"parity": Verdict.PASSED}
    assert verdicts(PARITY.results(world(tmp_path, task, predictions=wrong), policy())) == {"parity": Verdict.FAILED}
    other = pd.DataFrame({"label": ["x"] * len(ROWS), "probability": 0.5})
    assert verdicts(PARITY.results(world(tmp_path, task, predictions=other), policy())) == {"parity": Verdict.ERROR}


def three_classes(noise: float, seed: int = 1, rows: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Return class numbers (n,), and probabilities (n, 3) that know them the less the more noise there is."""
    truth = np.random.default_rng(1).integers(0, 3, rows)
    logits = np.eye(3)[truth] + np.random.default_rng(seed).normal(0, noise, (rows, 3))
    odds = np.exp(logits)
    return truth, odds / odds.sum(axis=1, keepdims=True)


def judged(task: Task, *arrays: Any) -> dict[str, Verdict]:
    return verdicts(comparison.judge(differences.compare(task, *arrays), LIMITS))


def test_a_worse_model_of_several_classes_fails_and_a_better_one_passes() -> None:
    truth, good = three_classes(0.5)
    _, bad = three_classes(1.5)
    names = ("comparison.auc", "comparison.f1", "comparison.log_loss")
    assert judged(Task.MULTICLASS, good, good, truth) == dict.fromkeys(names, Verdict.PASSED)
    assert judged(Task.MULTICLASS, good, bad, truth) == dict.fromkeys(names, Verdict.PASSED)
    assert judged(Task.MULTICLASS, bad, good, truth) == dict.fromkeys(names, Verdict.FAILED)


def test_a_worse_regression_fails_and_a_better_one_passes() -> None:
    random = np.random.default_rng(2)
    truth = random.normal(0, 10, 1500)
    good, bad = truth + random.normal(0, 1, 1500), truth + random.normal(0, 3, 1500)
    names = ("comparison.rmse", "comparison.mae", "comparison.r2")
    assert judged(Task.REGRESSION, good, bad, truth) == dict.fromkeys(names, Verdict.PASSED)
    assert judged(Task.REGRESSION, bad, good, truth) == dict.fromkeys(names, Verdict.FAILED)
    assert judged(Task.REGRESSION, truth, truth, truth) == dict.fromkeys(names, Verdict.PASSED)
    against_one_that_never_errs = judged(Task.REGRESSION, good, truth, truth)
    assert {against_one_that_never_errs[name] for name in names[:2]} == {Verdict.FAILED}


def test_few_rows_prove_nothing() -> None:
    truth, good = three_classes(1.0, rows=30)
    _, other = three_classes(1.0, seed=5, rows=30)
    assert Verdict.PASSED not in judged(Task.MULTICLASS, other, good, truth).values()


def test_metrics_are_those_of_scikit_learn() -> None:
    truth, probabilities = three_classes(1.0)
    predicted = probabilities.argmax(axis=1)
    values = probabilities[:, 0] * 7
    pairs = [
        (metrics.macro_auc(probabilities, truth), reference.roc_auc_score(truth, probabilities, multi_class="ovr")),
        (shares.mean_share(Share.F1, predicted, truth, 3), reference.f1_score(truth, predicted, average="macro")),
        (metrics.log_loss(probabilities, truth), reference.log_loss(truth, probabilities)),
        (metrics.rmse(truth, values), reference.root_mean_squared_error(truth, values)),
        (metrics.mae(truth, values), reference.mean_absolute_error(truth, values)),
        (metrics.r2(truth, values), reference.r2_score(truth, values)),
        (metrics.auc(values, truth == 0), reference.roc_auc_score(truth == 0, values)),
    ]
    for ours, theirs in pairs:
        assert ours == pytest.approx(theirs, abs=1e-12)
