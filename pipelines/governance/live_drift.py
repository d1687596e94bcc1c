"""What is known of how far a model's requests in production are from its training, and asking for another look."""

from pipelines.domain.records import LiveDrift
from pipelines.domain.release import Environment
from pipelines.ports import Records, Transaction


def live_drift(source: Records | Transaction, model: str) -> LiveDrift:
    """Return what is known; a record without a look before the first."""
    id = f"{model}/{Environment.PRODUCTION}"
    found = source.find(LiveDrift, id=id)
    return found[0] if found else LiveDrift(id, model, Environment.PRODUCTION)


def look_subject(known: LiveDrift, number: int) -> str:
    """Return by what progress knows the look of a number that somebody has asked for."""
    return f"{known.id}/{number}"
