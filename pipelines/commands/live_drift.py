"""Asking for a look at how far what production is asked is from what its version was trained on."""

from dataclasses import replace

from pipelines.governance.live_drift import live_drift
from pipelines.governance.models import refuse_removed
from pipelines.ports import Records


def request_look(records: Records, *, model: str) -> int:
    """Have the executor look as soon as no version is measured; return the number of the look that was asked for."""
    with records.write() as transaction:
        refuse_removed(transaction, model)
        known = live_drift(transaction, model)
        transaction.put(replace(known, asked=known.asked + 1))
        return known.asked + 1
