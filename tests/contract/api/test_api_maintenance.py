"""Holding releases back while the installation is changed."""

from typing import Any

import pytest

from tests.support.world.api import Api
from tests.support.world.records import MODEL, report_step


def test_a_maintenance_is_asked_for_shown_and_ended(api: Api) -> None:
    asked = api.ask("maintenance", {"verb": "up"})
    assert (asked.status_code, asked.json()) == (202, {"id": "c-1"})
    report_step(api.records, "c-1", "waiting", "for p-12, which changes production")

    shown = api.get("maintenance/c-1")
    assert (shown["state"], shown["verb"], shown["requested_by"]) == ("requested", "up", "alice")
    assert [line["message"] for line in shown["steps"]] == ["for p-12, which changes production"]
    assert [work["id"] for work in api.get("status")["unfinished"]] == ["c-1"]

    ended = api.ask("maintenance/c-1/end", {}, person="bob")
    assert (ended.status_code, ended.json()) == (202, {"id": "c-1"})
    assert api.get("maintenance/c-1")["end_asked_at"]
    assert [(entry.actor, entry.action) for entry in api.records.audit_trail()] == [
        ("alice", "maintenance"),
        ("bob", "maintenance.end"),
    ]


@pytest.mark.parametrize("body", [{}, {"verb": "destroy"}, {"verb": "up", "more": 1}])
def test_a_maintenance_names_its_verb(api: Api, body: dict[str, Any]) -> None:
    assert api.refuse("POST", "/api/v1/maintenance", {"model": MODEL, **body}) == (422, "usage")
