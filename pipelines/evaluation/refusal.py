"""Says why a version does not go on, and what its people can do about it."""

from collections.abc import Sequence

from pipelines.domain.records import Evaluation
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import GateError, GateFailed, Inconclusive, SlipwayError
from pipelines.evaluation.gates.gate import Need
from pipelines.evaluation.gates.registry import AnyGate, Gates

_KINDS: dict[Verdict, type[SlipwayError]] = {Verdict.FAILED: GateFailed, Verdict.ERROR: GateError}
_QUIET = "measure again when the machine is quiet"


def refusal_of(
    evaluation: Evaluation, verdict: Verdict, results: Sequence[GateResult], gates: Gates, *, default_model: str
) -> SlipwayError:
    """Return the refusal of an evaluation with this verdict: the message of every gate that stopped it.

    What to do next is said in commands that can be typed as they stand, but for what only a person knows.
    """
    stopped_by = [result for result in results if not result.goes_on]
    verdicts = {result.gate: result.verdict for result in stopped_by}
    stopping = [gate for gate in gates.all if gate.name in verdicts]
    of_model = "" if evaluation.model == default_model else f" MODEL={evaluation.model}"
    steps = [_step(gate, verdicts[gate.name], evaluation.version, of_model) for gate in stopping]
    hint = "; ".join(dict.fromkeys(steps)) or _QUIET
    if stopping and all(gate.overridable for gate in stopping):
        named = ",".join(gate.name for gate in stopping)
        override = f'"make promote VERSION={evaluation.version}{of_model} OVERRIDE=... GATES={named}"'
        hint += f", or let a person accept it, who says why: {override}"
    return _KINDS.get(verdict, Inconclusive)("\n".join(result.message for result in stopped_by), next=hint)


def _step(gate: AnyGate, verdict: Verdict, version: str, of_model: str) -> str:
    if verdict is Verdict.FAILED:
        return gate.advice or (
            f"train a better version, or put limits in force that fit this model: change {gate.place} of its policy,"
            f' "make policy-apply{of_model}", then "make deploy-staging VERSION={version}{of_model}"'
        )
    if verdict is Verdict.INCONCLUSIVE and Need.SERVICE not in gate.needs:
        return gate.undecided or (
            "have more rows evaluated (split.evaluation of model.yaml, or more data), or lower minimum_rows of the"
            " gate in the policy where so few are enough"
        )
    return _QUIET
