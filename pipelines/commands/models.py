"""Asking for a further model to be looked after, and for that to end."""

from pipelines.domain.events import EventKind
from pipelines.domain.names import checked_name
from pipelines.domain.promotion import RunState
from pipelines.domain.records import AddedSet, Evaluation, FurtherModel, ModelState, Promotion, Rollback
from pipelines.errors import Refused
from pipelines.governance.models import check_known, refuse_default, removal
from pipelines.ports import Records, Transaction


def add_model(records: Records, *, person: str, model: str, default: str, now: str) -> FurtherModel | None:
    """Have a model looked after beside the default one, which needs no adding: None is returned for it.

    Adding one twice is adding it once; one that was removed is taken up again with its history. Raises Refused while
    one of its name is being removed.
    """
    checked_name(model, what="model")
    if model == default:
        return None
    with records.write() as transaction:
        for known in transaction.find(FurtherModel, id=model):
            if known.state is ModelState.REMOVING:
                raise Refused(
                    f"the model {model} is being removed", next='add it once it is archived: "slipway status"'
                )
            if known.state is ModelState.SERVED:
                return known
        added = FurtherModel(model, person, now)
        transaction.put(added)
        transaction.emit(EventKind.MODEL_ADDED, subject=model, model=model, detail={"requested_by": person})
        transaction.audit(person, "model.add", "outcome", subject=model)
        return added


def remove_model(records: Records, *, person: str, model: str, default: str) -> FurtherModel:
    """Ask that nothing of a model serve any more; asking twice is asking once.

    Raises UsageError for the default model, UnknownModel, and Refused while work on the model is under way.
    """
    refuse_default(model, default)
    with records.write() as transaction:
        check_known(transaction, default, model)
        known = transaction.get(FurtherModel, model)
        if known.state is not ModelState.SERVED:
            return known
        _refuse_work(transaction, model)
        transaction.emit(
            EventKind.MODEL_REMOVAL_ASKED, subject=removal(model), model=model, detail={"requested_by": person}
        )
        transaction.audit(person, "model.remove", "intent", subject=removal(model), detail={"model": model})
        return transaction.change(known, state=ModelState.REMOVING)


def _refuse_work(transaction: Transaction, model: str) -> None:
    kinds: tuple[type[AddedSet | Evaluation | Promotion | Rollback], ...] = (AddedSet, Evaluation, Promotion, Rollback)
    alive = [state for state in RunState if not state.final]
    under_way = [
        work.id for kind in kinds for state in alive for work in transaction.find(kind, model=model, state=state)
    ]
    if under_way:
        raise Refused(
            f"work on the model {model} is under way: {', '.join(under_way)}",
            next="wait for its end, cancel an evaluation, or reject a promotion; then remove the model",
        )
