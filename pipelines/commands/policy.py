"""Asking for a policy to be put in force."""

from pipelines.domain.policy import Policy
from pipelines.domain.records import PolicyChange
from pipelines.governance import work
from pipelines.ports import Records


def request_policy(records: Records, *, person: str, model: str, policy: Policy, now: str) -> PolicyChange:
    """Ask for a policy to be put in force for a model."""
    with records.write() as transaction:
        change = PolicyChange(transaction.new_id(PolicyChange), policy.digest, policy.body, person, now, model=model)
        work.ask(transaction, change)
        transaction.audit(person, "policy", "intent", subject=change.id, detail={"digest": policy.digest})
        return change
