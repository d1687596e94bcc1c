"""The events of work: its state each time that it has changed, until its end."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import httpx
import pytest

from pipelines.adapters.database.records import SqlRecords
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation, Maintenance, PolicyChange, Promotion, Rollback
from pipelines.domain.release import Environment
from pipelines.governance.progress import report_progress
from tests.support.world.api import Api
from tests.support.world.records import MODEL, NOW, add, evaluation, promotion

WORK = [
    ("evaluations", "e-1", Evaluation),
    ("promotions", "p-1", Promotion),
    ("rollbacks", "b-1", Rollback),
    ("policy", "y-9", PolicyChange),
    ("maintenance", "c-1", Maintenance),
]


def store_work(records: SqlRecords, state: RunState) -> None:
    add(
        records,
        evaluation(report=None, state=state),
        promotion(state=state),
        Rollback("b-1", MODEL, Environment.PRODUCTION, "bob", NOW, state=state),
        PolicyChange("y-9", "sha256:" + "0" * 64, {}, "bob", NOW, state=state),
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
