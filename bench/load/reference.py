"""A server that answers after injected delays and remembers how long it truly held each request.

`python -m bench.load.reference HELD_FILE BASE_MS SLOW_SHARE SLOW_MS` prints its port; at SIGTERM it writes what
it held, in ms, to HELD_FILE. What it holds is measured, so that the grain of its timers is part of the truth.
"""

import array
import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BODY = b'{"prediction":"No","probability":0.5,"version":"reference"}'
REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
LENGTH_FIELD = b"content-length:"
END_S = 10.0


@dataclass(frozen=True)
class LatencyModel:
    """`slow_share` of the requests are held `slow_ms`, the others `base_ms`; 0 is answered at once."""

    base_ms: float = 0.0
    slow_share: float = 0.0
    slow_ms: float = 0.0

    def draw_s(self) -> float:
        """Return how long to hold the next request."""
        return (self.slow_ms if random.random() < self.slow_share else self.base_ms) / 1000


class _Connection(asyncio.Protocol):
    """Answers one request after the other, each when it has been held long enough."""

    def __init__(self, latency_model: LatencyModel, held_ms: "array.array[float]") -> None:
        self._law = latency_model
        self._held_ms = held_ms
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        arrived_s = time.perf_counter()
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self._received = b""
        hold_s = self._law.draw_s()
        if hold_s:
            asyncio.get_running_loop().call_later(hold_s, self._answer, arrived_s)
        else:
            self._answer(arrived_s)

    def _answer(self, arrived_s: float) -> None:
        self._held_ms.append((time.perf_counter() - arrived_s) * 1000)
        self._transport.write(REPLY)


@dataclass
class Reference:
    """A running reference: its port, and after its end what it held each request, in ms."""

    port: int
    held_ms: list[float]


@contextmanager
def running_reference(latency_model: LatencyModel, workdir: Path, root: Path) -> Iterator[Reference]:
    """Run the server as a process of its own; `held_ms` is filled when the block has ended."""
    held = workdir / "held.json"
    words = [str(value) for value in (held, latency_model.base_ms, latency_model.slow_share, latency_model.slow_ms)]
    command = [sys.executable, "-m", "bench.load.reference", *words]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = process.stdout.readline() if process.stdout else ""
            reference = Reference(int(port), [])
            yield reference
        finally:
            process.terminate()
            process.wait(END_S)
    reference.held_ms.extend(json.loads(held.read_text()))


def _length(head: bytes) -> int:
    return int(head.lower().partition(LENGTH_FIELD)[2].partition(b"\r\n")[0] or 0)


async def _serve(latency_model: LatencyModel, held_ms: "array.array[float]") -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(latency_model, held_ms), "127.0.0.1", 0, backlog=1024)
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await ended.wait()
    server.close()


def main(held_file: str, *latency_model: str) -> None:
    """Serve until SIGTERM."""
    held_ms = array.array("d")
    asyncio.run(_serve(LatencyModel(*map(float, latency_model)), held_ms))
    Path(held_file).write_text(json.dumps(held_ms.tolist()))


if __name__ == "__main__":
    main(*sys.argv[1:])
