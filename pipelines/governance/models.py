"""Which models an installation has by its records: the default one, and those that were added to it while it ran."""

from pipelines.domain.events import EventKind
from pipelines.domain.records import FurtherModel, ModelState
from pipelines.errors import UsageError
from pipelines.ports import Records, Transaction
from pipelines.settings.models import unknown_model


def served_models(source: Records | Transaction, default: str) -> list[str]:
    """Return the models that are looked after, the default one first; those that are being removed among them."""
    further = [each.id for each in source.find(FurtherModel) if each.state is not ModelState.ARCHIVED]
    return [default, *sorted(further)]


def known_models(source: Records | Transaction, default: str) -> list[str]:
    """Return every model that has a history here, the default one first."""
    return [default, *sorted(each.id for each in source.find(FurtherModel))]


def check_known(source: Records | Transaction, default: str, model: str) -> str:
    """Return a model that has a history here; raise UnknownModel."""
    if model not in (known := known_models(source, default)):
        raise unknown_model(model, known)
    return model


def check_served(source: Records | Transaction, default: str, model: str) -> str:
    """Return a model for which something may be asked; raise UnknownModel, or UsageError for one that was removed."""
    check_known(source, default, model)
    refuse_removed(source, model)
    return model


def refuse_removed(source: Records | Transaction, model: str) -> None:
    """Raise UsageError for a model that is being removed, or was.

    Whoever asks for work looks within the transaction that writes it: a removal begins where there is no work.
    """
    for each in source.find(FurtherModel, id=model):
        if each.state is not ModelState.SERVED:
            was = "is being removed" if each.state is ModelState.REMOVING else "was removed"
            raise UsageError(f"the model {model} {was}", next=f"add it again: slipway model add {model}")


def archived(transaction: Transaction, model: str, *, at: str) -> None:
    """Record that nothing of a model serves any more; its history stays."""
    removed = transaction.get(FurtherModel, model)
    if removed.state is ModelState.REMOVING:
        transaction.change(removed, state=ModelState.ARCHIVED, archived_at=at)
        transaction.emit(EventKind.MODEL_ARCHIVED, subject=removal(model), model=model)
        transaction.audit("executor", "model.remove", "outcome", subject=removal(model), detail={"model": model})


def removal(model: str) -> str:
    """Return how the removal of a model is known: as the subject of events, and as the holder of its leases."""
    return f"removal-{model}"


def refuse_default(model: str, default: str) -> None:
    """Raise UsageError for the model that the installation can't be without."""
    if model == default:
        raise UsageError(
            f"{model} is the default model, which stays", next='"make destroy" removes the whole installation'
        )
