"""The events of work: its state each time that it has changed, until its end."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.adapters.database.records import SqlRecords
from pipelines.api.work import SIGN_S
from pipelines.domain.promotion import RunState
from pipelines.domain.records import AddedSet, Evaluation, LeaderLease, Maintenance, PolicyChange, Promotion, Rollback
from pipelines.domain.release import Environment
from pipelines.governance.progress import report_progress
from pipelines.governance.work import move
from tests.support.world.api import Api
from tests.support.world.fakes import FakeCheckpoints
from tests.support.world.records import MODEL, NOW, add, evaluation, promotion, report_step

WORK = [
    ("evaluations", "e-1", Evaluation),
    ("promotions", "p-1", Promotion),
    ("rollbacks", "b-1", Rollback),
    ("policy", "y-9", PolicyChange),
    ("evalsets", "s-1", AddedSet),
    ("maintenance", "c-1", Maintenance),
]


def store_work(records: SqlRecords, state: RunState) -> None:
    add(
        records,
        evaluation(report=None, state=state),
        promotion(state=state),
        Rollback("b-1", MODEL, Environment.PRODUCTION, "bob", NOW, state=state),
        PolicyChange("y-9", "sha256:" + "0" * 64, {}, "bob", NOW, state=state),
        AddedSet("s-1", MODEL, "mine", "sha256:" + "0" * 64, "a" * 32, "bob", NOW, state=state),
        Maintenance("c-1", MODEL, "up", "bob", NOW, state=state),
    )


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    return [json.loads(message["data"]) for message in messages_of(answer) if "event" not in message]


def messages_of(answer: httpx.Response) -> list[dict[str, str]]:
    blocks = [block for block in answer.text.split("\n\n") if block]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


@pytest.mark.parametrize(("kind", "id", "_record"), WORK)
@pytest.mark.parametrize("state", [RunState.DONE, RunState.STOPPED])
def test_the_events_of_ended_work_are_its_state_and_the_end(
    api: Api, kind: str, id: str, _record: type, state: RunState
) -> None:
    store_work(api.records, state)

    (event,) = events_of(api.send("GET", f"/api/v1/{kind}/{id}/events"))

    assert event == api.get(f"{kind}/{id}")


@pytest.mark.parametrize(("kind", "id", "record"), WORK)
def test_the_events_of_running_work_go_on_until_it_ends(api: Api, kind: str, id: str, record: Any) -> None:
    store_work(api.records, RunState.RUNNING)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.send, "GET", f"/api/v1/{kind}/{id}/events")
        for number, state in enumerate((RunState.RUNNING, RunState.DONE)):
            with api.records.write() as transaction:
                report_progress(transaction, id, f"K{number}", "")
                transaction.change(transaction.get(record, id), state=state)
        events = events_of(answer.result(timeout=30))

    assert events[-1]["state"] == "done"
    assert [line["step"] for line in events[-1]["steps"]] == ["K0", "K1"]
    assert all(before != after for before, after in pairwise(events))


def test_a_change_is_sent_as_soon_as_another_process_has_committed_it(api: Api, tmp_path: Path) -> None:
    store_work(api.records, RunState.RUNNING)
    other = SqlRecords(f"sqlite:///{tmp_path / 'slipway.db'}", FakeCheckpoints())
    with closing(other), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.send, "GET", "/api/v1/promotions/p-1/events")
        await_listener(tmp_path)
        report_step(other, "p-1", "K0")
        # By now it has read what was there when it began: only a signal tells it of the end in time.
        time.sleep(0.3)
        with other.write() as transaction:
            move(transaction, transaction.get(Promotion, "p-1"), RunState.DONE)
        committed = time.monotonic()
        assert events_of(answer.result(timeout=30))[-1]["state"] == "done"
        assert time.monotonic() - committed < SIGN_S / 5


def test_who_comes_back_with_the_last_id_is_sent_what_is_new_only(api: Api) -> None:
    store_work(api.records, RunState.DONE)
    path = "/api/v1/rollbacks/b-1/events"
    (message,) = messages_of(api.send("GET", path))

    assert messages_of(api.send("GET", path, headers={"last-event-id": message["id"]})) == []
    assert messages_of(api.send("GET", path, headers={"last-event-id": "another"})) == [message]


def test_while_nothing_happens_the_last_sign_of_the_executor_is_sent(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.api.work.SIGN_S", 0.05)
    store_work(api.records, RunState.RUNNING)
    add(api.records, LeaderLease("executor", "x1", 4711, 1.0, NOW))

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.send, "GET", "/api/v1/rollbacks/b-1/events")
        await_listener(tmp_path)
        with pytest.raises(TimeoutError):
            answer.result(timeout=0.5)
        with api.records.write() as transaction:
            move(transaction, transaction.get(Rollback, "b-1"), RunState.DONE)
        signs = [message for message in messages_of(answer.result(timeout=30)) if "event" in message]

    assert signs
    assert {sign["event"] for sign in signs} == {"executor"}
    told = [json.loads(sign["data"]) for sign in signs]
    assert {sign["heartbeat_at"] for sign in told} == {NOW} and all(sign["age_s"] > 0 for sign in told)


def test_the_status_is_sent_whenever_it_has_changed_until_the_api_ends(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.api.routes.status.LOOK_S", 0.05)
    later = "2026-11-28T08:00:00+00:00"
    add(api.records, LeaderLease("executor", "x1", 4711, 1.0, NOW))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.send, "GET", "/api/v1/status/events")
        await_listener(tmp_path)
        # By now it has sent the first; no event tells of the second, which is seen by looking.
        time.sleep(1)
        with api.records.write() as transaction:
            transaction.change(transaction.get(LeaderLease, "executor"), heartbeat_at=later)
        time.sleep(1)
        api.app.state.slipway.feed.end()
        events = events_of(answer.result(timeout=30))

    assert [event["executor"]["heartbeat_at"] for event in events] == [NOW, later]
    # An age that grows is no change.
    assert strip_age(events[-1]) == strip_age(api.get("status"))


def strip_age(status: dict[str, Any]) -> dict[str, Any]:
    return {**status, "executor": {"heartbeat_at": status["executor"]["heartbeat_at"]}}


def test_streams_leave_no_listener_behind(api: Api, tmp_path: Path) -> None:
    store_work(api.records, RunState.DONE)
    for _ in range(3):
        api.send("GET", "/api/v1/rollbacks/b-1/events")

    deadline = time.monotonic() + 10
    while listeners(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def listeners(home: Path) -> list[Path]:
    return list((home / "slipway.db-signals").glob("*.fifo"))


def await_listener(home: Path) -> None:
    await_that(lambda: listeners(home) != [])


def test_a_person_follows_so_much_and_all_together_so_much(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.api.feed.MOST_OF_A_PERSON", 2)
    monkeypatch.setattr("pipelines.api.feed.MOST", 3)
    store_work(api.records, RunState.RUNNING)
    path = "/api/v1/rollbacks/b-1/events"
    with ThreadPoolExecutor(3) as pool:
        streams = [pool.submit(api.send, "GET", path, person=person) for person in ("alice", "alice", "bob")]
        feed = api.app.state.slipway.feed
        await_that(lambda: feed._open.total() == 3)
        for person, told in (("alice", "alice follows 2 streams"), ("bob", "3 streams of events are open")):
            refused = api.send("GET", path, person=person)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
            assert refused.json()["error"]["code"] == "too_many_streams"
            assert told in refused.json()["error"]["message"]
        with api.records.write() as transaction:
            move(transaction, transaction.get(Rollback, "b-1"), RunState.DONE)
        # Who was there first has gone on.
        assert [events_of(stream.result(timeout=30))[-1]["state"] for stream in streams] == ["done"] * 3
    assert api.send("GET", path).status_code == 200


def test_a_stream_that_can_not_begin_is_not_counted(api: Api) -> None:
    for _ in range(3):
        assert api.refuse("GET", "/api/v1/rollbacks/b-1/events") == (400, "usage")
    assert api.app.state.slipway.feed._open.total() == 0


def await_that(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
