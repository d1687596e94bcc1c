"""What serves and what is under way."""

import sqlite3
from contextlib import closing
from pathlib import Path

from pipelines.domain.promotion import RunState
from pipelines.domain.records import LeaderLease, Lease, Observation, Rollback
from pipelines.domain.release import Environment
from pipelines.operator.tables import status_table
from pipelines.releases.machine import boot_clock
from tests.support.world.api import Api, wait_for_people
from tests.support.world.records import MODEL, NOW, add, evaluation, policy, promotion


def test_status_tells_what_serves_what_was_seen_what_waits_and_who_holds(api: Api) -> None:
    wait_for_people(api.records)
    add(
        api.records,
        Lease(f"{MODEL}/production", "p-1", 1, "x1", NOW),
        Lease(f"{MODEL}/staging", None, 1, "x1", NOW),
        Observation(f"{MODEL}/production", "1", "1", [], None, NOW),
        Rollback("b-1", MODEL, Environment.PRODUCTION, "bob", NOW, state=RunState.DONE),
        LeaderLease("executor", "x1", 4711, 1.0, NOW),
    )

    shown = api.get("status")

    assert shown["model"] == MODEL
    assert {name: found["version"] for name, found in shown["serving"].items()} == {"production": "1"}
    assert {name: seen["alias"] for name, seen in shown["observed"].items()} == {"production": "1"}
    assert [work["id"] for work in shown["unfinished"]] == ["p-1"]
    assert [lease["holder"] for lease in shown["leases"]] == ["p-1"]
    assert shown["policy"] == {"digest": policy().digest, "profile": "full"}
    assert shown["executor"]["heartbeat_at"] == NOW


def test_status_tells_how_long_ago_an_executor_showed_itself_whatever_the_clock_on_the_wall_says(api: Api) -> None:
    assert api.get("status")["executor"] == {"heartbeat_at": None, "age_s": None}
    boot_id, boot_s = boot_clock()
    add(api.records, LeaderLease("executor", "x1", 4711, 1.0, NOW, boot_id=boot_id, beat_s=boot_s - 100))
    assert 100 <= api.get("status")["executor"]["age_s"] < 200


def test_status_names_work_that_should_go_on_and_does_not_and_so_does_its_table(api: Api) -> None:
    wait_for_people(api.records)
    assert api.get("status")["stalled"] == []
    add(api.records, Rollback("b-1", MODEL, Environment.PRODUCTION, "bob", NOW))

    shown = api.get("status")

    assert shown["stalled"] == ["b-1 does not go on: no executor shows that it lives"]
    assert 'b-1 does not go on: no executor shows that it lives; next: "slipway up"' in status_table([shown])


def test_status_reads_nothing_of_work_that_has_ended(api: Api, tmp_path: Path) -> None:
    asked = promotion("p-10", state=RunState.REQUESTED)
    ended = evaluation("e-1", report=None, state=RunState.DONE, error={"message": "was wrong"})
    add(api.records, ended, asked, promotion("p-9"))
    (database,) = tmp_path.rglob("*.db")
    with closing(sqlite3.connect(database)) as connection, connection:
        # Who reads the row now fails.
        connection.execute("UPDATE evaluations SET error = '{' WHERE id = 'e-1'")

    assert [work["id"] for work in api.get("status")["unfinished"]] == ["p-9", "p-10"]
