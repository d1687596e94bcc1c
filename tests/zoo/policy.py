"""The policy that the zoo is judged by: the defaults, with an accuracy that its customers allow."""

from pipelines.domain.policy import VERSION, Policy
from pipelines.evaluation.gates.registry import GATES


def limits() -> Policy:
    """Return the policy; what can be known of these customers is less than the default asks for."""
    gates = {"accuracy": {"minimum": 0.55}}
    return GATES.read_policy({"schema_version": VERSION, "profile": "full", "gates": gates})
