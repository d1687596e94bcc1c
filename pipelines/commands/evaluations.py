"""Asking for a version to be measured, and for that to end before it is done."""

from typing import Any

from pipelines.domain.events import EventKind
from pipelines.domain.names import checked_name, checked_version
from pipelines.domain.promotion import Override
from pipelines.domain.records import Evaluation
from pipelines.errors import UsageError
from pipelines.governance import work
from pipelines.governance.models import refuse_removed
from pipelines.ports import Records, Transaction


def request_evaluation(
    records: Records, *, person: str, model: str, version: str, override: Override | None, now: str
) -> Evaluation:
    """Ask for an evaluation; one of the same version that is still under way is returned instead."""
    checked_name(model, what="model")
    checked_version(version)
    with records.write() as transaction:
        refuse_removed(transaction, model)
        return ask_evaluation(transaction, person, model, version, override=override, now=now)


def ask_evaluation(
    transaction: Transaction, person: str, model: str, version: str, *, override: Override | None, now: str
) -> Evaluation:
    """Do what `request_evaluation` does with what else `transaction` writes."""
    fields = override_fields(override)
    for begun in transaction.find(Evaluation, model=model, version=version):
        # One that is about to end decides nothing for who asks now.
        ends = begun.state.final or begun.cancel_asked_by
        if not ends and begun.override_gates == fields["override_gates"]:
            return begun
    evaluation = Evaluation(transaction.new_id(Evaluation), model, version, person, now, **fields)
    work.ask(transaction, evaluation)
    transaction.audit(person, "evaluation.request", "intent", subject=evaluation.id, detail={"version": version})
    return evaluation


def cancel_evaluation(records: Records, *, person: str, id: str) -> Evaluation:
    """Ask for the end of an evaluation, which the executor carries out; asking twice is asking once.

    Raises UsageError for one that has ended, or that there is not.
    """
    with records.write() as transaction:
        evaluation = transaction.get(Evaluation, id)
        if evaluation.state.final:
            raise UsageError(f"evaluation {id} is {evaluation.state} already", next="nothing is left to cancel")
        if evaluation.cancel_asked_by:
            return evaluation
        detail = {"version": evaluation.version}
        transaction.audit(person, "evaluation.cancel", "outcome", subject=id, detail=detail)
        told = {**detail, "person": person}
        transaction.emit(EventKind.EVALUATION_CANCEL_ASKED, subject=id, model=evaluation.model, detail=told)
        return transaction.change(evaluation, cancel_asked_by=person)


def override_fields(override: Override | None) -> dict[str, Any]:
    """Return an override as the fields of the record that keeps it."""
    if override is None:
        return {"override_gates": [], "override_reason": None}
    return {"override_gates": sorted(override.gates), "override_reason": override.reason}
