"""Asking for a policy to be put in force."""

from pipelines.domain.policy import Policy
from pipelines.domain.records import PolicyChange
from pipelines.ports import Records


def request_policy(records: Records, *, person: str, model: str, body: object, now: str) -> PolicyChange:
    """Ask for a policy to be put in force for a model; raise PolicyInvalid before anything is written."""
    policy = Policy.parse(body)
    with records.write() as transaction:
        change = PolicyChange(transaction.new_id(PolicyChange), policy.digest, policy.body, person, now, model=model)
        transaction.add(change)
        transaction.audit(person, "policy", "intent", subject=change.id, detail={"digest": policy.digest})
        return change
