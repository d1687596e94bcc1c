"""Asking for a policy to be put in force."""

from pipelines.domain.policy import Policy
from pipelines.domain.records import PolicyChange
from pipelines.governance import work
from pipelines.ports import Records


def request_policy(records: Records, *, person: str, policy: Policy, now: str) -> PolicyChange:
    """Ask for a policy to be put in force."""
    with records.write() as transaction:
        change = PolicyChange(transaction.new_id(PolicyChange), policy.digest, policy.body, person, now)
        work.ask(transaction, change)
        transaction.audit(person, "policy", "intent", subject=change.id, detail={"digest": policy.digest})
        return change
