"""Asking for a rollback, and what is shown of it."""

from pipelines.domain.records import Rollback
from pipelines.domain.release import Environment
from tests.support.world.api import Api


def test_a_rollback_is_asked_for_production_unless_named(api: Api) -> None:
    first = api.ask("rollbacks", {}, person="bob")
    second = api.ask("rollbacks", {"environment": "staging"})

    assert (first.status_code, second.status_code) == (202, 202)
    assert [asked.environment for asked in api.records.find(Rollback)] == [Environment.PRODUCTION, Environment.STAGING]
    shown = api.get(f"rollbacks/{first.json()['id']}")
    assert (shown["requested_by"], shown["state"], shown["steps"]) == ("bob", "requested", [])
