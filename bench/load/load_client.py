"""A small load client without retries: what a server drops, resets or answers with an error is counted."""

import asyncio
import contextlib
import json
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

CONNECTIONS = 20
REPLY_TIMEOUT_S = 5.0


@dataclass
class LoadResult:
    """What came of the load: `answers` holds (seconds on the monotonic clock, version, latency in ms)."""

    sent: int = 0
    failures: list[str] = field(default_factory=list)
    answers: list[tuple[float, str, float]] = field(default_factory=list)

    @property
    def versions(self) -> set[str]:
        """The versions that answered."""
        return {version for _, version, _ in self.answers}


class LoadClient:
    """Posts rows to `/predict` at fixed rates: over kept connections, and over a new connection each.

    With `looks`, a kept connection that the server has ended meanwhile is replaced right before the next request, as
    clients do that keep connections. Without, what a server ends without a word counts as its failure.
    """

    def __init__(
        self, url: str, row: dict[str, Any], *, kept_per_s: float = 300, new_per_s: float = 50, looks: bool = False
    ) -> None:
        parts = urlsplit(url)
        if not (parts.hostname and parts.port):
            raise ValueError(f"{url!r} names no host and port")
        self._address = (parts.hostname, parts.port)
        self._host = parts.netloc
        self._body = json.dumps(row).encode()
        self._kept_per_s = kept_per_s
        self._new_per_s = new_per_s
        self._looks = looks
        self.result = LoadResult()

    async def run(self, stop: Callable[[], bool]) -> None:
        """Send until `stop()`, then finish what is under way."""
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(self._keep(stop, number / self._kept_per_s))
            group.create_task(self._renew(stop))

    async def _keep(self, stop: Callable[[], bool], offset_s: float) -> None:
        pace_s = CONNECTIONS / self._kept_per_s
        due = time.monotonic() + offset_s
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not stop():
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + pace_s, time.monotonic() - pace_s)
            if streams and self._looks and _is_ended(streams[1]):
                streams[1].close()
                streams = None
            streams = await self._send(streams, close=False)
        if streams:
            streams[1].close()

    async def _renew(self, stop: Callable[[], bool]) -> None:
        due = time.monotonic()
        async with asyncio.TaskGroup() as group:
            while not stop():
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                due += 1 / self._new_per_s
                group.create_task(self._send(None, close=True))

    async def _send(
        self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None, *, close: bool
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """Send one request; return the streams as long as the server keeps them."""
        self.result.sent += 1
        began = time.monotonic()
        kept = streams is not None
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                streams = streams or await asyncio.open_connection(*self._address)
                streams[1].write(self._request(close))
                status, closing, body = await _read_reply(streams[0])
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            taken_ms = (time.monotonic() - began) * 1000
            self.result.failures.append(
                f"{error!r} after {taken_ms:.1f} ms on a {'kept' if kept else 'new'} connection"
            )
            status, closing = 0, True
        else:
            if status == HTTPStatus.OK:
                now = time.monotonic()
                self.result.answers.append((now, body["version"], (now - began) * 1000))
            else:
                self.result.failures.append(f"status {status}: {body}")
        if streams and (closing or close):
            streams[1].close()
            return None
        return streams

    def _request(self, close: bool) -> bytes:
        lines = [
            "POST /predict HTTP/1.1",
            f"Host: {self._host}",
            "Content-Type: application/json",
            f"Content-Length: {len(self._body)}",
        ]
        lines += ["Connection: close"] * close
        return "\r\n".join([*lines, "", ""]).encode() + self._body


@contextlib.contextmanager
def under_load(client: LoadClient) -> Iterator[LoadResult]:
    """Run the client in a thread for as long as the block takes."""
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(client.run(stop.is_set)))
    thread.start()
    try:
        yield client.result
    finally:
        stop.set()
        thread.join()


def _is_ended(writer: asyncio.StreamWriter) -> bool:
    """Whether there is anything to read of a connection on which nothing is asked: that is its end."""
    sock = writer.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return writer.is_closing() or bool(poll.poll(0))


async def _read_reply(reader: asyncio.StreamReader) -> tuple[int, bool, dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status_line, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines if line)
    body = json.loads(await reader.readexactly(int(headers["content-length"])))
    return int(status_line.split(" ", 2)[1]), headers.get("connection") == "close", body
