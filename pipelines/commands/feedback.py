"""Telling what was true: labels of rows that were answered, by their request ids. Telling it again changes nothing."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.description import Label, Task
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Feedback, RequestLog
from pipelines.domain.release import Environment
from pipelines.errors import Refused, UsageError
from pipelines.governance.models import refuse_removed
from pipelines.ports import Records, Transaction

# So many lists of labels may wait for the executor.
_MOST_WAITING = 100


@dataclass(frozen=True)
class TrueLabel:
    """What is true of a row of a request, the first one unless said otherwise."""

    request_id: str
    row: int
    label: Label


def give_feedback(
    records: Records, *, person: str, model: str, labels: Sequence[TrueLabel], now: str
) -> tuple[Feedback, bool]:
    """Write labels down for the executor; return them, and whether the same ones had been sent before.

    Raises UsageError for a label that the model does not answer, or before any request of it was sampled, and Refused
    while too many wait.
    """
    with records.write() as transaction:
        refuse_removed(transaction, model)
        output = answered_by(transaction, model)
        if output is None:
            raise UsageError(
                f"no request of {model} was sampled yet, so nothing is known to be labelled",
                next='see "slipway live"; the policy\'s requests.rate says how many are',
            )
        typed = [_typed(each, number, output) for number, each in enumerate(labels)]
        digest = digest_of(canonical({"model": model, "labels": typed}))
        known = transaction.find(Feedback, model=model, digest=digest)
        if known:
            return known[0], True
        if len(transaction.find(Feedback, state=RunState.REQUESTED)) >= _MOST_WAITING:
            raise Refused(
                f"{_MOST_WAITING} lists of labels wait for the executor already",
                next='send them again later; "slipway status" shows whether it runs',
            )
        feedback = Feedback(transaction.new_id(Feedback), model, person, digest, len(typed), typed, now)
        transaction.add(feedback)
        detail = {"labels": len(typed), "digest": digest}
        transaction.audit(person, "feedback", "outcome", subject=feedback.id, detail=detail)
        return feedback, False


def answered_by(source: Records | Transaction, model: str) -> dict[str, Any] | None:
    """Return what production answers, or else staging, by `task` and `classes`; None before a request was sampled."""
    for environment in (Environment.PRODUCTION, Environment.STAGING):
        found = source.find(RequestLog, id=f"{model}/{environment}")
        if found:
            return found[0].output
    return None


def _typed(given: TrueLabel, number: int, output: Mapping[str, Any]) -> dict[str, Any]:
    """Return a label as it is kept; raise UsageError for one that is none of the model's answers."""
    label, known = given.label, {"request_id": given.request_id, "row": given.row}
    if output["task"] == Task.REGRESSION:
        # A whole number may be larger than any that there is with a fraction.
        if isinstance(label, (bool, str)) or not abs(label) <= sys.float_info.max:
            raise UsageError(f"labels.{number}: {str(label)[:60]!r} is no number", next="the model answers numbers")
        return {**known, "label": float(label)}
    classes = output["classes"]
    if not any(type(label) is type(each) and label == each for each in classes):
        shown = ", ".join(repr(each) for each in classes[:10])
        raise UsageError(f"labels.{number}: {str(label)[:60]!r} is no class of the model", next=f"its classes: {shown}")
    return {**known, "label": label}
