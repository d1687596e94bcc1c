"""The connections of one replica: bounded in number, and cut where a client lets the service wait.

Time is counted in turns of a sweep a second: a machine that stood still, or a service that was busy, takes nothing of
a client's time.
"""

import asyncio
import contextlib
import os
import resource
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Protocol

from uvicorn.server import ServerState

from app.errors import RequestError, error_body

SWEEP_S = 1.0
MOST = 1000
# For health checks, when each of the others is being answered.
SPARE = 50
# Files that are no connections.
_OTHER_FILES = 64
_MIB = 1 << 20


class Stage(Enum):
    """What a connection waits for."""

    FIRST_REQUEST = auto()
    REQUEST = auto()
    HEAD = auto()
    BODY = auto()
    SERVICE = auto()
    READER = auto()
    END = auto()


# Between two requests the server's own limit of 75 s comes first; a body has a second more for each megabyte.
PATIENCE_S = {
    Stage.FIRST_REQUEST: 20,
    Stage.REQUEST: 90,
    Stage.HEAD: 10,
    Stage.BODY: 10,
    Stage.READER: 10,
    Stage.END: 10,
}
_CLIENTS_TURN = tuple(PATIENCE_S)


class Connection(Protocol):
    """What is to be known of one connection."""

    watch: "Watch"
    cycle: Any
    transport: Any

    @property
    def stage(self) -> Stage:
        """What it waits for."""

    @property
    def received_bytes(self) -> int:
        """How much has come of the request that is under way."""

    def refuse(self, error: RequestError) -> None:
        """Answer in the service's place, and close."""


class Watch:
    """What the sweeps saw of one connection: `sweeps` counts for how long it has been as it is."""

    __slots__ = ("_cycle", "_stage", "number", "sweeps")

    def __init__(self, number: int) -> None:
        self.number = number
        self.sweeps = 0
        self._cycle: object = None
        self._stage: Stage | None = None

    def look(self, connection: Connection) -> bool:
        """Look again; return whether the client has let the service wait for too long."""
        cycle, stage = connection.cycle, connection.stage
        if cycle is not self._cycle or stage is not self._stage:
            self._cycle, self._stage, self.sweeps = cycle, stage, 0
            return False
        self.sweeps += 1
        if stage is Stage.SERVICE:
            return False
        bonus_s = connection.received_bytes // _MIB if stage is Stage.BODY else 0
        return self.sweeps * SWEEP_S > PATIENCE_S[stage] + bonus_s


class Connections(ServerState):
    """All connections, as uvicorn keeps them; `sweeps` goes up as long as the event loop turns."""

    def __init__(self) -> None:
        super().__init__()
        self.sweeps = 0
        self._most = min(MOST, _raised_file_limit() - _OTHER_FILES - SPARE)
        self._admitted = 0
        # Who would be given up next stands last.
        self._patient: list[Connection] = []

    async def keep_sweeping(self) -> None:
        """Look after the connections once a second, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweeps += 1
            self._patient = []
            for connection in self._all():
                if connection.watch.look(connection):
                    _cut(connection)

    def admit(self, newcomer: Connection) -> None:
        """Watch a new connection; where there are too many, that one goes whose client has let us wait for longest."""
        self._admitted += 1
        newcomer.watch = Watch(self._admitted)
        count = len(self.connections)
        if count <= self._most:
            return
        given_up = self._longest_waiting()
        if given_up:
            given_up.transport.abort()
        elif count > self._most + SPARE:
            newcomer.transport.abort()

    def answer_all(self, error: RequestError) -> int:
        """Tell every client that waits for an answer, from another thread while the event loop does not turn."""
        told = 0
        for connection in self._all():
            cycle = connection.cycle
            if cycle is None or cycle.response_started:
                continue
            with contextlib.suppress(OSError):
                os.write(connection.transport.get_extra_info("socket").fileno(), refusal(error))
                told += 1
        return told

    def _all(self) -> list[Connection]:
        return list(self.connections)  # type: ignore[arg-type]  # the worker makes no others

    def _longest_waiting(self) -> Connection | None:
        if not self._patient:
            self._patient = sorted(self._all(), key=lambda each: (each.watch.sweeps, -each.watch.number))
        while self._patient:
            connection = self._patient.pop()
            # One that has ended since makes no room.
            if connection in self.connections and connection.stage in _CLIENTS_TURN:
                return connection
        return None


def _cut(connection: Connection) -> None:
    """End a connection, with a word to a client that has begun a request."""
    if connection.stage in (Stage.HEAD, Stage.BODY):
        text = "the request did not come in time"
        connection.refuse(RequestError(HTTPStatus.REQUEST_TIMEOUT, "timeout", text))
    else:
        connection.transport.abort()


def _raised_file_limit() -> int:
    """Let this process have as many files as it may, and return how many these are."""
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST if most == resource.RLIM_INFINITY else min(2 * MOST, most)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return wanted


def refusal(error: RequestError) -> bytes:
    """Return a whole HTTP answer that refuses a request and ends the connection."""
    request_id = os.urandom(16).hex()
    body = error_body(error, request_id)
    lines = (
        f"HTTP/1.1 {error.status.value} {error.status.phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        f"x-request-id: {request_id}",
        "connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body
