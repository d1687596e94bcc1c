"""The audit trail and its proof."""

import pytest

from tests.support.world.api import Api


@pytest.mark.parametrize(("limit", "shown"), [(None, 5), (2, 2), (0, 1), (-3, 1), (99, 5), (2**80, 5)])
def test_the_audit_trail_shows_its_last_entries(api: Api, limit: int | None, shown: int) -> None:
    for _ in range(5):
        api.ask("rollbacks", {})

    entries = api.send("GET", "/api/v1/audit", params={"limit": limit} if limit is not None else {}).json()["entries"]

    assert [entry["seq"] for entry in entries] == list(range(6 - shown, 6))


def test_the_audit_trail_is_verified_against_its_heads(api: Api) -> None:
    api.ask("rollbacks", {})

    answer = api.get("audit/verification")

    assert answer == {"valid": True, "entries": 1, "first_bad": None, "detail": "1 entries hold"}
