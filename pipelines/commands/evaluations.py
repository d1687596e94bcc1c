"""Asking for a version to be measured."""

from typing import Any

from pipelines.domain.names import checked_name, checked_version
from pipelines.domain.promotion import Override
from pipelines.domain.records import Evaluation
from pipelines.governance import work
from pipelines.ports import Records, Transaction


def request_evaluation(
    records: Records, *, person: str, model: str, version: str, override: Override | None, now: str
) -> Evaluation:
    """Ask for an evaluation; one of the same version that is still under way is returned instead."""
    checked_name(model, what="model")
    checked_version(version)
    with records.write() as transaction:
        return ask_evaluation(transaction, person, model, version, override=override, now=now)


def ask_evaluation(
    transaction: Transaction, person: str, model: str, version: str, *, override: Override | None, now: str
) -> Evaluation:
    """Do what `request_evaluation` does with what else `transaction` writes."""
    fields = override_fields(override)
    for begun in transaction.find(Evaluation, model=model, version=version):
        if not begun.state.final and begun.override_gates == fields["override_gates"]:
            return begun
    evaluation = Evaluation(transaction.new_id(Evaluation), model, version, person, now, **fields)
    work.ask(transaction, evaluation)
    transaction.audit(person, "evaluation.request", "intent", subject=evaluation.id, detail={"version": version})
    return evaluation


def override_fields(override: Override | None) -> dict[str, Any]:
    """Return an override as the fields of the record that keeps it."""
    if override is None:
        return {"override_gates": [], "override_reason": None}
    return {"override_gates": sorted(override.gates), "override_reason": override.reason}
