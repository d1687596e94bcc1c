"""Send requests when they are due, whatever became of earlier ones: latency counts from the intended time."""

import gc
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import gevent
import numpy as np
from gevent.pool import Pool
from geventhttpclient import HTTPClient
from geventhttpclient.response import HTTPParseError
from locust import User, task
from locust.exception import StopUser
from locust.runners import STATE_RUNNING, STATE_SPAWNING

from loadtests.generator.clock import Alarm
from loadtests.generator.recording import Recording, Sample
from loadtests.generator.schedule import CHUNK, course_offsets
from loadtests.generator.turn import Turn
from loadtests.plan.personas import Mix, Reply, Request, check_reply
from loadtests.plan.plan import Arrivals
from loadtests.plan.shapes import Course, Shape
from loadtests.samples import Persona

LEAD_S = 0.05
# So long after the end of a turn is sent what was due in it: a moment's pause there is no loss.
GRACE_S = 0.25
PROGRESS_EVERY_S = 1.0
SENDING = (STATE_SPAWNING, STATE_RUNNING)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Load:
    """What one user sends, at its own `rate_per_s`, in one turn after the other.

    `requests` holds what each persona of the `mix` sends. A reply of another version than `expected_version` is a
    failure in Locust's statistics; nothing is expected where that is empty.
    """

    requests: dict[Persona, tuple[Request, ...]]
    mix: Mix
    rate_per_s: float
    shape: Shape
    arrivals: Arrivals
    seed: int
    expected_version: str
    turns: tuple[Turn, ...]
    timeout_s: float
    max_in_flight: int


class OpenModelUser(User):
    """One dispatcher of an open model; more users, or more processes, add their rates."""

    load: ClassVar[Load]
    recording: ClassVar[Recording | None] = None
    _spawned: ClassVar[int] = 0

    def on_start(self) -> None:
        """Take a number, which seeds this user apart from all others of the run."""
        OpenModelUser._spawned += 1
        worker = getattr(self.environment.runner, "worker_index", 0)
        self._seed = (max(worker, 0), OpenModelUser._spawned)
        self._clients: dict[str, HTTPClient] = {}
        self._pool = Pool()
        self._alarm = Alarm()
        # What was made until now lives as long as the run: looking through it for garbage would hold requests back.
        gc.collect()
        gc.freeze()

    def on_stop(self) -> None:
        """Close the timer and the connections; what is in flight by then is neither answered nor failed."""
        self._pool.kill()
        self._alarm.close()
        for client in self._clients.values():
            client.close()

    @task
    def dispatch(self) -> None:
        """Send every arrival of each turn's schedule when it is due, wait for the last replies, and end the run."""
        load, recording = self.load, self.recording
        reporter = gevent.spawn(self._report) if recording else None
        for number, turn in enumerate(load.turns):
            if self.environment.runner.state in SENDING:
                self._send_turn(number, turn)
                self._pool.join(timeout=load.timeout_s + 1)
        if reporter:
            reporter.kill()
        if recording:
            gevent.spawn(recording.over, self.environment.runner)
        raise StopUser

    def _send_turn(self, number: int, turn: Turn) -> None:
        load, recording = self.load, self.recording
        rng = np.random.default_rng([load.seed, turn.number, *self._seed])
        course = Course(load.shape, rate_per_s=load.rate_per_s, warmup_s=turn.warmup_s, duration_s=turn.duration_s)
        requests = self._requests(rng)
        client = self._client(turn.host or self.environment.host)
        start_s = time.monotonic() + LEAD_S
        measured_from_s = start_s + turn.warmup_s
        measured_until_s = measured_from_s + turn.duration_s
        planned = 0
        for offset_s in course_offsets(load.arrivals, course, rng):
            due_s = start_s + offset_s
            if due_s >= measured_until_s or self.environment.runner.state not in SENDING:
                break
            # What a saturated generator did not send in time counts as planned only: the run ends on time.
            late = time.monotonic() > measured_until_s + GRACE_S
            if not late:
                self._alarm.wait_until(due_s)
            if due_s >= measured_from_s:
                if not planned and recording:
                    recording.begin()
                planned += 1
            if not late:
                self._send(_Shot(number, client, due_s, next(requests)))
        if recording:
            recording.end(number, measured_from_s=measured_from_s, measured_until_s=measured_until_s, planned=planned)

    def _client(self, host: str) -> HTTPClient:
        """Return the connections to a host, which stay open from turn to turn."""
        timeout_s = self.load.timeout_s
        if host not in self._clients:
            self._clients[host] = HTTPClient.from_url(
                host,
                concurrency=self.load.max_in_flight,
                connection_timeout=timeout_s,
                network_timeout=timeout_s,
            )
        return self._clients[host]

    def _report(self) -> None:
        while self.recording:
            self.recording.show_progress()
            gevent.sleep(PROGRESS_EVERY_S)

    def _requests(self, rng: np.random.Generator) -> Iterator[Request]:
        """Yield what to send: a persona by its weight, and of each persona its requests in turn."""
        personas, weights = zip(*self.load.mix, strict=True)
        streams = [_in_turn(self.load.requests[persona], rng) for persona in personas]
        if len(streams) == 1:
            yield from streams[0]
        while True:
            for index in rng.choice(len(streams), CHUNK, p=weights).tolist():
                yield next(streams[index])

    def _send(self, shot: "_Shot") -> None:
        if len(self._pool) >= self.load.max_in_flight:
            self._fire(shot, (time.monotonic(), math.inf, 0), Reply("", "too many in flight"))
        else:
            self._pool.spawn(self._exchange, shot)

    def _exchange(self, shot: "_Shot") -> None:
        request, due_s, sent_s = shot.request, shot.due_s, time.monotonic()
        status, reply, replied_s = 0, b"", math.nan
        try:
            # A request that is sent late has used up part of its time already.
            with gevent.Timeout(max(0.0, due_s + self.load.timeout_s - sent_s)):
                headers = {"Content-Type": request.content_type}
                response = shot.client.request("POST", request.route, request.body, headers)
                reply = bytes(response.read())
                status, replied_s = response.status_code, time.monotonic()
            found = check_reply(request, status, reply)
        except (gevent.Timeout, TimeoutError):
            found = Reply("", "timeout")
        except (OSError, HTTPParseError) as failure:
            found = Reply("", type(failure).__name__)
        except Exception as failure:
            # Without a sample it would be nobody's error.
            log.exception("a request ended otherwise than expected")
            found = Reply("", type(failure).__name__)
        elapsed_ms = ((replied_s if status else time.monotonic()) - due_s) * 1000
        measured = (sent_s, elapsed_ms if status else math.inf, status)
        self._fire(shot, measured, found, elapsed_ms=elapsed_ms, length=len(reply))

    def _fire(
        self,
        shot: "_Shot",
        measured: tuple[float, float, int],
        found: Reply,
        *,
        elapsed_ms: float | None = None,
        length: int = 0,
    ) -> None:
        """Tell Locust, whose statistics can't hold an infinite response time."""
        failure, expected, request = found.error, self.load.expected_version, shot.request
        if found.version and expected and found.version != expected:
            failure = f"version {found.version} instead of {expected}"
        sample = Sample(shot.due_s, *measured, found.version, found.error, request.route, request.persona, shot.turn)
        self.environment.events.request.fire(
            request_type="POST",
            name=request.name,
            response_time=elapsed_ms,
            response_length=length,
            exception=RuntimeError(failure) if failure else None,
            context={"sample": sample},
        )


@dataclass(frozen=True, slots=True)
class _Shot:
    """A request that is due, the turn that it belongs to, and the connections that it takes."""

    turn: int
    client: HTTPClient
    due_s: float
    request: Request


def _in_turn(requests: tuple[Request, ...], rng: np.random.Generator) -> Iterator[Request]:
    order = rng.permutation(len(requests)).tolist()
    while True:
        for index in order:
            yield requests[index]
