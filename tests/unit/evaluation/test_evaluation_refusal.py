"""What is said where a version does not go on: whose fault it is, and commands that can be typed as they stand."""

import pytest

from pipelines.domain.records import Evaluation
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import GateError, GateFailed, Inconclusive, SlipwayError
from pipelines.evaluation.gates.registry import GATES
from pipelines.evaluation.refusal import refusal_of

MODEL = "toy-model"


def refused(verdict: Verdict, *gates: str, model: str = MODEL) -> SlipwayError:
    evaluation = Evaluation("e-1", model, "7", "alice", "2026-01-01T00:00:00Z")
    results = [GateResult(f"{gate}.part", verdict, f"{verdict} {gate}") for gate in gates]
    passed = GateResult("smoke", Verdict.PASSED, "PASS smoke")
    return refusal_of(evaluation, verdict, [*results, passed], GATES, default_model=MODEL)


def test_a_no_names_the_gate_and_the_commands_of_the_version_and_its_model() -> None:
    mine, further = refused(Verdict.FAILED, "accuracy"), refused(Verdict.FAILED, "accuracy", model="weather")
    assert isinstance(mine, GateFailed)
    assert mine.message == "failed accuracy"
    assert mine.next == (
        "train a better version, or put limits in force that fit this model: change those of accuracy in its policy,"
        ' "make policy-apply", then "make deploy-staging VERSION=7", or let a person accept it, who says why:'
        ' "make promote VERSION=7 OVERRIDE=... GATES=accuracy"'
    )
    assert further.next is not None
    for command in ("policy-apply", "deploy-staging VERSION=7", "promote VERSION=7"):
        assert f"make {command} MODEL=weather" in further.next


def test_too_few_rows_ask_for_more_and_for_no_quiet_machine() -> None:
    told = refused(Verdict.INCONCLUSIVE, "accuracy", "calibration", "comparison")
    assert isinstance(told, Inconclusive)
    assert told.next is not None
    assert told.next.count("split.evaluation of model.yaml") == 1
    assert "quiet" not in told.next and "CalibratedClassifierCV" not in told.next
    assert "GATES=accuracy,calibration,comparison" in told.next


@pytest.mark.parametrize(
    ("verdict", "gate", "advice"),
    [
        (Verdict.INCONCLUSIVE, "slo", "measure again when the machine is quiet"),
        (Verdict.INCONCLUSIVE, "training_rows", "register the version with the hashes of its training rows"),
        (Verdict.FAILED, "calibration", "CalibratedClassifierCV"),
        (Verdict.INCONCLUSIVE, "leakage", "only known with the answer"),
        (Verdict.FAILED, "smoke", "mend what the message names"),
        (Verdict.ERROR, "accuracy", "mend what the message names"),
        (Verdict.ERROR, "resources", "register a smaller model"),
    ],
)
def test_each_gate_says_what_helps_it(verdict: Verdict, gate: str, advice: str) -> None:
    assert advice in str(refused(verdict, gate).next)


def test_a_gate_with_a_no_beside_what_it_can_not_tell_says_what_helps_either() -> None:
    evaluation = Evaluation("e-1", MODEL, "7", "alice", "2026-01-01T00:00:00Z")
    for results in (
        [GateResult("quality.recall", Verdict.FAILED, "f"), GateResult("quality.auc", Verdict.INCONCLUSIVE, "i")],
        [GateResult("quality.auc", Verdict.INCONCLUSIVE, "i"), GateResult("quality.recall", Verdict.FAILED, "f")],
    ):
        told = str(refusal_of(evaluation, Verdict.FAILED, results, GATES, default_model=MODEL).next)
        assert "train a better version" in told and "have more rows evaluated" in told


def test_what_nobody_may_accept_offers_no_override() -> None:
    told = refused(Verdict.ERROR, "digest", "accuracy")
    assert isinstance(told, GateError)
    assert "OVERRIDE" not in str(told.next)
