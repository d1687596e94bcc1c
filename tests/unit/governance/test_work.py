"""The states of work change along their ways only, and each change is told in its own transaction."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.database.records import SqlRecords
from pipelines.domain.events import EventKind
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation, Maintenance, PolicyChange, Promotion, Rollback
from pipelines.domain.release import Environment
from pipelines.domain.work import Work, may_become
from pipelines.errors import Rejected, SlipwayError
from pipelines.governance.work import ask, move, stop
from tests.support.servers.databases import sqlite_records
from tests.support.world.fakes import FakeCheckpoints
from tests.support.world.records import MODEL, NOW, add, evaluation, promotion

WORK: list[Any] = [
    evaluation(report=None, state=RunState.REQUESTED),
    promotion(state=RunState.REQUESTED),
    Rollback("b-1", MODEL, Environment.PRODUCTION, "alice", NOW),
    PolicyChange("y-1", "sha256:p", {}, "alice", NOW),
    Maintenance("c-1", MODEL, "up", "alice", NOW),
]


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqlRecords]:
    opened = sqlite_records(tmp_path, FakeCheckpoints())
    yield opened
    opened.close()


def kinds(records: SqlRecords) -> list[str]:
    return [event.kind for event in records.events()]


@pytest.mark.parametrize("work", WORK, ids=lambda work: type(work).__name__)
def test_every_state_that_work_may_have_is_told(records: SqlRecords, work: Work) -> None:
    with records.write() as transaction:
        ask(transaction, work)
    reached, pending = {RunState.REQUESTED}, [work]
    while pending:
        current = pending.pop()
        for state in RunState:
            if state not in reached and may_become(current, state):
                with records.write() as transaction:
                    pending.append(move(transaction, current, state))
                reached.add(state)

    told = kinds(records)
    assert len(told) == len(reached) == len(set(told))
    assert {RunState.REQUESTED, RunState.DONE, RunState.STOPPED} <= reached


@pytest.mark.parametrize("work", WORK, ids=lambda work: type(work).__name__)
@pytest.mark.parametrize("final", [RunState.DONE, RunState.STOPPED])
def test_nothing_follows_a_final_state(work: Work, final: RunState) -> None:
    ended = type(work)(**{**vars(work), "state": final})  # type: ignore[arg-type]

    assert not any(may_become(ended, state) for state in RunState)


def test_a_promotion_is_never_released_before_people_were_asked(records: SqlRecords) -> None:
    asked = promotion(state=RunState.REQUESTED)
    add(records, asked)

    for state in (RunState.APPROVED, RunState.RUNNING, RunState.DONE):
        with pytest.raises(SlipwayError, match=f"p-1 is requested and can't become {state}"), records.write() as t:
            move(t, asked, state)

    assert records.get(Promotion, "p-1") == asked
    assert kinds(records) == []


def test_an_event_tells_of_which_model_and_version_and_why_it_stopped(records: SqlRecords) -> None:
    with records.write() as transaction:
        asked = ask(transaction, promotion())
        stop(transaction, asked, Rejected("rejected by bob: slow"), at=NOW)

    event = records.events()[-1]
    assert (event.kind, event.model, event.subject) == (EventKind.PROMOTION_STOPPED, MODEL, "p-1")
    assert (event.detail["version"], event.detail["error"]["code"]) == ("2", "rejected")
    stopped = records.get(Promotion, "p-1")
    assert (stopped.state, stopped.ended_at, (stopped.error or {})["code"]) == (RunState.STOPPED, NOW, "rejected")


def test_a_change_that_is_taken_back_is_not_told(records: SqlRecords) -> None:
    add(records, evaluation(report=None, state=RunState.REQUESTED))

    with pytest.raises(RuntimeError), records.write() as transaction:
        move(transaction, transaction.get(Evaluation, "e-1"), RunState.RUNNING)
        raise RuntimeError("in the middle")

    assert records.get(Evaluation, "e-1").state is RunState.REQUESTED
    assert kinds(records) == []
