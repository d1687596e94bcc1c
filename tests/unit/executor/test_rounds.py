"""The order of a round, the heartbeat within it, and a start that waits for what it needs."""

import errno
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Lease, Promotion
from pipelines.errors import DatabaseUnavailable, LostLease
from pipelines.executor import scheduler
from pipelines.executor.recovery import Recovery
from pipelines.executor.scheduler import Executor, carry_out
from pipelines.governance.progress import progress_of
from pipelines.governance.subscribers import Subscriber, Subscriptions
from pipelines.ports import Step
from pipelines.releases.leader import HEARTBEAT_S, Succession
from pipelines.releases.leased import KINDS
from tests.support.world.world import MODEL, PRODUCTION, World


class Clock:
    """A clock that a test sets on."""

    def __init__(self) -> None:
        self.now_s = 1.0

    def monotonic(self) -> float:
        return self.now_s


class Engine:
    """An engine of workflows that notes what it is told, and takes `start_s` to begin one."""

    def __init__(self, clock: Clock, told: list[str]) -> None:
        self._clock, self._told = clock, told

    def register(self, name: str, body: Callable[[str, Step], None]) -> None:
        """Nothing is ever carried out."""

    def launch(self) -> None:
        self._told.append("launch")

    def start(self, name: str, work_id: str) -> None:
        self._clock.now_s += 2 * HEARTBEAT_S
        self._told.append("start")

    def works_on(self, work_id: str) -> bool:
        return True

    def abandon(self, work_id: str) -> None:
        """Nothing is carried out."""

    def ended(self, *, before: str, limit: int) -> list[str]:
        return []

    def forget(self, work_ids: list[str]) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


def test_what_was_asked_for_begins_before_anything_is_undone_and_the_heart_beats_in_between(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.promoted(world.register())
    world.promoted(world.register())
    for person in ("alice", "bob", "carol"):
        commands.request_rollback(world.records, person=person, model=MODEL, environment=PRODUCTION, now=now())
    clock, told, stop = Clock(), list[str](), threading.Event()

    def look(recovery: Recovery) -> None:
        told.append("look")
        stop.set()

    executor = Executor(world.services, Engine(clock, told), {}, lambda: told.append("beat"), Succession(None, []))
    executor.launch(stop)
    told.clear()
    monkeypatch.setattr(Recovery, "look", look)
    monkeypatch.setattr(scheduler, "time", clock)
    clock.now_s = 1e9
    executor.run(stop)
    assert told[: told.index("look")] == ["beat", "start"] * 3


def test_the_heart_beats_before_each_promotion_that_waits_or_expires_and_each_event(world: World) -> None:
    asked = [world.approved(world.register()) for _ in range(2)]
    told, idle = list[str](), dict.fromkeys(KINDS, lambda work_id: None)
    subscriptions = Subscriptions(world.records)
    subscriptions.subscribe("test", Subscriber(lambda event: told.append("event")))
    for state, until in ((RunState.REQUESTED, None), (RunState.WAITING, "2026-01-01T00:00:00.000+00:00")):
        with world.records.write() as transaction:
            for promotion in asked:
                transaction.change(transaction.get(Promotion, promotion.id), state=state, expires_at=until)
        told.clear()
        carry_out(world.services, idle, beat=lambda: told.append("beat"))
        assert told == ["beat"] * 2 * (1 if until else 2)
    assert {world.records.get(Promotion, promotion.id).state for promotion in asked} == {RunState.STOPPED}
    told.clear()
    subscriptions.deliver(beat=lambda: told.append("beat"))
    assert told == ["beat", "event"] * (len(told) // 2) != []

    def lost() -> None:
        raise LostLease("another executor has taken over")

    world.services.note("p-1", "waiting", "")
    with pytest.raises(LostLease):
        subscriptions.deliver(beat=lost)


def test_a_start_waits_for_a_full_disk_and_a_database_that_is_away(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "RETRY_S", 0.001)
    told, stop, failed = list[str](), threading.Event(), list[str]()

    def once(where: object, name: str, error: Exception) -> None:
        real = getattr(where, name)

        def failing(*arguments: Any, **more: Any) -> Any:
            if name not in failed:
                failed.append(name)
                raise error
            return real(*arguments, **more)

        monkeypatch.setattr(where, name, failing)

    taken = Succession(None, [Lease(f"{MODEL}/production", "p-1", 1, "one", now())])
    once(world.records, "listen", OSError(errno.ENOSPC, "No space left on device"))
    once(world.records, "write", DatabaseUnavailable("the database is away"))
    once(scheduler, "progress_of", DatabaseUnavailable("the database is away"))
    once(scheduler.Subscriptions, "subscribe", DatabaseUnavailable("the database is away"))
    subscribers = {"nobody": Subscriber(lambda event: None)}
    executor = Executor(world.services, Engine(Clock(), told), subscribers, lambda: None, taken)
    executor.launch(stop)
    assert (told, sorted(failed)) == (["launch"], ["listen", "progress_of", "subscribe", "write"])
    assert [each.step for each in progress_of(world.records, "p-1")] == ["recovered"]
    stop.set()
    executor.run(stop)
    stopped = Executor(world.services, Engine(Clock(), told), subscribers, lambda: None, taken)
    stopped.launch(stop)
    stopped.run(stop)
    assert told == ["launch"]
