"""The order of a round, the heartbeat within it, and a start that waits for what it needs."""

import errno
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.records import Lease
from pipelines.errors import DatabaseUnavailable
from pipelines.executor import scheduler
from pipelines.executor.recovery import Recovery
from pipelines.executor.scheduler import Executor
from pipelines.governance.progress import progress_of
from pipelines.governance.subscribers import Subscriber
from pipelines.ports import Step
from pipelines.releases.leader import HEARTBEAT_S, Succession
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
