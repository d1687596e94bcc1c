"""Asking for rows of one's own to become an evaluation set of a model; asking again changes nothing."""

from pipelines.domain.promotion import RunState
from pipelines.domain.records import AddedSet
from pipelines.errors import Refused
from pipelines.governance import work
from pipelines.governance.models import refuse_removed
from pipelines.ports import Records

# So many sets may wait for the executor.
_MOST_WAITING = 100


def add_evaluation_set(
    records: Records, *, person: str, model: str, name: str, digest: str, run_id: str, now: str
) -> tuple[AddedSet, bool]:
    """Ask for the set that a run has logged; return it, and whether the same bytes had been added before.

    Who added them first, and by which name, stays. Raises Refused while too many wait.
    """
    with records.write() as transaction:
        refuse_removed(transaction, model)
        for known in transaction.find(AddedSet, model=model, digest=digest):
            if known.state is not RunState.STOPPED:
                return known, True
        if len(transaction.find(AddedSet, state=RunState.REQUESTED)) >= _MOST_WAITING:
            raise Refused(
                f"{_MOST_WAITING} evaluation sets wait for the executor already",
                next='add it again later; "slipway status" shows whether it runs',
            )
        asked = AddedSet(transaction.new_id(AddedSet), model, name, digest, run_id, person, now)
        work.ask(transaction, asked)
        detail = {"name": name, "digest": digest, "run_id": run_id}
        transaction.audit(person, "evalset.add", "intent", subject=asked.id, detail=detail)
        return asked, False
