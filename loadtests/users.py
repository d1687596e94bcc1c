"""Send requests when they are due, whatever became of earlier ones: latency counts from the intended time."""

import json
import math
import time
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

from loadtests.clock import Alarm
from loadtests.plan import Arrivals
from loadtests.recording import Recording, Sample
from loadtests.samples import OK
from loadtests.schedule import arrival_offsets

LEAD_S = 0.05
PROGRESS_EVERY_S = 1.0
SENDING = (STATE_SPAWNING, STATE_RUNNING)


@dataclass(frozen=True)
class Load:
    """What one user sends, at its own `rate_per_s`; an infinite `duration_s` lasts until Locust stops it."""

    path: str
    bodies: tuple[bytes, ...]
    rate_per_s: float
    arrivals: Arrivals
    seed: int
    warmup_s: float
    duration_s: float
    timeout_s: float
    max_in_flight: int
    recording: Recording | None


class OpenModelUser(User):
    """One dispatcher of an open model; more users, or more processes, add their rates."""

    load: ClassVar[Load]
    _spawned: ClassVar[int] = 0

    def on_start(self) -> None:
        """Open the connection pool and seed this user apart from all others of the run."""
        OpenModelUser._spawned += 1
        worker = getattr(self.environment.runner, "worker_index", 0)
        self._rng = np.random.default_rng([self.load.seed, max(worker, 0), OpenModelUser._spawned])
        headers = {"Content-Type": "application/json"}
        timeout_s = self.load.timeout_s
        self._client = HTTPClient.from_url(
            self.host or self.environment.host,
            headers=headers,
            concurrency=self.load.max_in_flight,
            connection_timeout=timeout_s,
            network_timeout=timeout_s,
        )
        self._pool = Pool()
        self._alarm = Alarm()

    def on_stop(self) -> None:
        """Close the timer and the connections."""
        self._alarm.close()
        self._client.close()

    @task
    def dispatch(self) -> None:
        """Send every arrival of the schedule when it is due, wait for the last replies, and end the run."""
        load, recording = self.load, self.load.recording
        start_s = time.monotonic() + LEAD_S
        measured_from_s = start_s + load.warmup_s
        measured_until_s = measured_from_s + load.duration_s
        bodies = [load.bodies[index] for index in self._rng.permutation(len(load.bodies))]
        reporter = gevent.spawn(self._report) if recording else None
        planned = 0
        for number, offset_s in enumerate(arrival_offsets(load.arrivals, load.rate_per_s, self._rng)):
            due_s = start_s + offset_s
            if due_s >= measured_until_s or self.environment.runner.state not in SENDING:
                break
            # What a saturated generator did not send in time counts as planned only: the run ends on time.
            late = time.monotonic() > measured_until_s
            if not late:
                self._alarm.wait_until(due_s)
            if due_s >= measured_from_s:
                if not planned and recording:
                    recording.begin()
                planned += 1
            if not late:
                self._send(due_s, bodies[number % len(bodies)])
        if recording:
            recording.end(measured_from_s=measured_from_s, measured_until_s=measured_until_s, planned=planned)
        self._pool.join(timeout=load.timeout_s + 1)
        if reporter:
            reporter.kill()
            gevent.spawn(self.environment.runner.quit)
        raise StopUser

    def _report(self) -> None:
        while self.load.recording:
            self.load.recording.show_progress()
            gevent.sleep(PROGRESS_EVERY_S)

    def _send(self, due_s: float, body: bytes) -> None:
        if len(self._pool) >= self.load.max_in_flight:
            self._fire(Sample(due_s, time.monotonic(), math.inf, 0, "", "too many in flight"), None, 0)
        else:
            self._pool.spawn(self._request, due_s, body)

    def _request(self, due_s: float, body: bytes) -> None:
        sent_s = time.monotonic()
        status, reply, error = 0, b"", ""
        try:
            # A request that is sent late has used up part of its time already.
            with gevent.Timeout(max(0.0, due_s + self.load.timeout_s - sent_s)):
                response = self._client.post(self.load.path, body)
                reply = bytes(response.read())
                status = response.status_code
        except (gevent.Timeout, TimeoutError):
            error = "timeout"
        except (OSError, HTTPParseError) as failure:
            error = type(failure).__name__
        elapsed_ms = (time.monotonic() - due_s) * 1000
        if status and status != OK:
            error = f"status {status}"
        latency_ms = elapsed_ms if status else math.inf
        version = _version(reply) if status == OK else ""
        self._fire(Sample(due_s, sent_s, latency_ms, status, version, error), elapsed_ms, len(reply))

    def _fire(self, sample: Sample, elapsed_ms: float | None, length: int) -> None:
        """Tell Locust, whose statistics can't hold an infinite response time."""
        self.environment.events.request.fire(
            request_type="POST",
            name=self.load.path,
            response_time=elapsed_ms,
            response_length=length,
            exception=RuntimeError(sample.error) if sample.error else None,
            context={"sample": sample},
        )


def _version(reply: bytes) -> str:
    """Return the version that a reply names; none where it is no such object."""
    try:
        body = json.loads(reply)
    except ValueError:
        return ""
    version = body.get("version") if isinstance(body, dict) else None
    return version if isinstance(version, str) else ""
