"""Says why a version does not go on, and what its people can do about it."""

from collections.abc import Sequence

from pipelines.domain.records import Evaluation
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import GateError, GateFailed, Inconclusive, SlipwayError
from pipelines.evaluation.gates.gate import Need, NoLimits
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
    verdicts = {gate.name: {each.verdict for each in stopped_by if each.gate == gate.name} for gate in gates.all}
    stopping = [gate for gate in gates.all if verdicts[gate.name]]
    of_model = "" if evaluation.model == default_model else f" MODEL={evaluation.model}"
    again = f'"make deploy-staging VERSION={evaluation.version}{of_model}"'
    steps = [_step(gate, each, again, of_model) for gate in stopping for each in sorted(verdicts[gate.name])]
    hint = "; ".join(dict.fromkeys(steps)) or _QUIET
    if stopping and all(gate.overridable for gate in stopping):
        named = ",".join(gate.name for gate in stopping)
        override = f'"make promote VERSION={evaluation.version}{of_model} OVERRIDE=... GATES={named}"'
        hint += f", or let a person accept it, who says why: {override}"
    return _KINDS.get(verdict, Inconclusive)("\n".join(result.message for result in stopped_by), next=hint)


def _step(gate: AnyGate, verdict: Verdict, again: str, of_model: str) -> str:
    """Return what to do about one verdict of a gate; `again` is the command that has the version measured again."""
    if Need.SERVICE in gate.needs and verdict is not Verdict.FAILED:
        return gate.advice or _QUIET
    if verdict is Verdict.INCONCLUSIVE:
        return gate.undecided or (
            "have more rows evaluated, of every class (split.evaluation of model.yaml, or more data); how many are"
            " enough is minimum_rows of the gate in the policy"
        )
    if verdict is Verdict.ERROR:
        return f"mend what the message names, then {again}"
    if gate.limits is NoLimits:
        return gate.advice or "mend what the message names, and register a new version"
    return gate.advice or (
        f"train a better version, or put limits in force that fit this model: change those of {gate.name} in its"
        f' policy, "make policy-apply{of_model}", then {again}'
    )
