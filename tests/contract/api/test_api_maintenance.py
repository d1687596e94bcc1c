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

    for path, body in (("maintenance/c-1/end", {}), ("maintenance", {"verb": "down"})):
        sent = {"model": MODEL, **body}
        assert api.refuse("POST", f"/api/v1/{path}", sent, person="bob") == (403, "not_allowed")
    assert api.get("maintenance/c-1")["end_asked_at"] is None

    ended = api.ask("maintenance/c-1/end", {})
    assert (ended.status_code, ended.json()) == (202, {"id": "c-1"})
    assert api.get("maintenance/c-1")["end_asked_at"]
    assert [(entry.actor, entry.action) for entry in api.records.audit_trail()] == [
        ("alice", "maintenance"),
        ("alice", "maintenance.end"),
    ]


@pytest.mark.parametrize("body", [{}, {"verb": "destroy"}, {"verb": "up", "more": 1}])
def test_a_maintenance_names_its_verb(api: Api, body: dict[str, Any]) -> None:
    assert api.refuse("POST", "/api/v1/maintenance", {"model": MODEL, **body}) == (422, "usage")
