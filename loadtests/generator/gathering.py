"""Bring the raw values of Locust's workers to their master, byte for byte: all of them, or the run has none."""

import logging
from pathlib import Path
from typing import Any

import gevent
from locust.env import Environment
from locust.runners import STATE_MISSING, MasterRunner

from loadtests.generator.recording import Recording, write_progress

RAW = "raw values"
WATCH_S = 0.5
LOST = 1


class SentRecording(Recording):
    """The raw values of a worker that shares no disk with its master: they go there as Locust's own messages do."""

    def show_progress(self) -> None:
        """Write nothing: the master knows the counts from Locust's statistics."""

    def on_quit(self, **_: Any) -> None:
        """Write nothing: what was not sent by now belongs to a run that ended early."""

    def over(self, runner: Any) -> None:
        """Send the whole recording; the master ends the run when it has all."""
        if self.whole:
            # In a thread: a long recording takes longer to pack than the master waits for a sign of life.
            content = gevent.get_hub().threadpool.apply(self.content)
            runner.send_message(RAW, {"content": content})


class Gathering:
    """The master's side: writes a raw file for each worker beside `path`, and ends the run with the last one.

    It ends it as well, with exit code 1, once a worker is lost: what the others measured is not the load planned.
    """

    def __init__(self, environment: Environment, runner: MasterRunner, path: Path) -> None:
        """Take part in the run that will be started."""
        self._environment, self._runner, self._path = environment, runner, path
        self._numbers: dict[str, int] = {}
        self._awaited: set[str] = set()
        runner.register_message(RAW, self._take)
        environment.events.test_start.add_listener(self._begin)  # type: ignore[no-untyped-call]

    def _begin(self, **_: Any) -> None:
        """Give each worker a number, by their hosts, so that it keeps it in every phase of a load run."""
        self._numbers = {client: number for number, client in enumerate(sorted(self._runner.clients))}
        self._awaited = set(self._numbers)
        gevent.spawn(self._watch)

    def _take(self, msg: Any, **_: Any) -> None:
        number = self._numbers[msg.node_id]
        self._path.with_stem(f"{self._path.stem}-worker{number}").write_bytes(msg.data["content"])
        self._awaited.discard(msg.node_id)

    def _watch(self) -> None:
        while self._awaited:
            if failure := self._failure():
                logging.getLogger(__name__).error(failure)
                self._environment.process_exit_code = LOST
                break
            total = self._runner.stats.total
            write_progress(self._path, sent=total.num_requests, errors=total.num_failures)
            gevent.sleep(WATCH_S)
        self._runner.quit()

    def _failure(self) -> str | None:
        clients, planned = self._runner.clients, self._runner.target_user_count
        if len(self._numbers) != planned:
            return f"{len(self._numbers)} workers joined instead of {planned}"
        for client in sorted(self._awaited):
            if client not in clients or clients[client].state == STATE_MISSING:
                return f"worker {self._numbers[client]} was lost ({client})"
        return None
