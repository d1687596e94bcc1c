"""Asking for a policy to be put in force."""

from collections.abc import Collection

from pipelines.domain.policy import Policy
from pipelines.domain.records import PolicyChange
from pipelines.errors import PolicyInvalid
from pipelines.governance import work
from pipelines.ports import Records


def request_policy(
    records: Records, *, person: str, model: str, policy: Policy, now: str, people: Collection[str] = ()
) -> PolicyChange:
    """Ask for a policy to be put in force for a model.

    Raises PolicyInvalid for more approvals than `people`, all that the installation knows, can give one of them.
    """
    if people and policy.approvals.count > len(people) - 1:
        raise PolicyInvalid(
            f"approvals.count is {policy.approvals.count}, and {len(people) - 1} can approve what another asks for",
            next='lower it, or add people to the tokens file and run "make up"',
        )
    with records.write() as transaction:
        change = PolicyChange(transaction.new_id(PolicyChange), policy.digest, policy.body, person, now, model=model)
        work.ask(transaction, change)
        transaction.audit(person, "policy", "intent", subject=change.id, detail={"digest": policy.digest})
        return change
