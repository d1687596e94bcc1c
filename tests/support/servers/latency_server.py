"""An HTTP server whose latency model is known: `python latency_server.py '{"delay_ms": 2}'` prints its port.

Keys: delay_ms (all requests), slow_share and slow_ms (these on top), version, status, block_ms (spent
computing, which holds all other requests up), nested_share (of answers: brackets in brackets, too deep to read), host
and port (where it listens; 0 is a free port).
"""

import asyncio
import json
import random
import sys
import time
from typing import Any

DEFAULTS = {
    "delay_ms": 1, "slow_share": 0, "slow_ms": 0, "version": "6", "status": 200, "block_ms": 0,
    "nested_share": 0,
    "host": "127.0.0.1", "port": 0,
}  # fmt: skip

NESTED = 100_000
PREDICTION = {"prediction": "Yes", "probability": 0.7}


class Service(asyncio.Protocol):
    def __init__(self, latency_model: dict[str, Any]) -> None:
        self.latency_model = latency_model
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if not end or len(body) < length:
            return
        self.received = b""
        if head.startswith(b"GET "):
            self.write(200, {"status": "ok", "model": "churn-model", "version": self.latency_model["version"]})
            return
        self.rows, status = read_request(head, body)
        self.status = self.latency_model["status"] if status == 200 else status
        time.sleep(self.latency_model["block_ms"] / 1000)
        delay_ms = self.latency_model["delay_ms"]
        if random.random() < self.latency_model["slow_share"]:
            delay_ms += self.latency_model["slow_ms"]
        asyncio.get_running_loop().call_later(delay_ms / 1000, self.answer)

    def answer(self) -> None:
        answers: dict[str, Any] = PREDICTION
        if self.rows is not None:
            answers = {"predictions": [PREDICTION] * self.rows}
        if random.random() < self.latency_model["nested_share"]:
            self.send(self.status, b"[" * NESTED)
        else:
            self.write(self.status, {**answers, "version": self.latency_model["version"]})

    def write(self, status: int, answer: dict[str, Any]) -> None:
        self.send(status, json.dumps(answer).encode())

    def send(self, status: int, body: bytes) -> None:
        head = f"HTTP/1.1 {status} Status\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)


def read_request(head: bytes, body: bytes) -> tuple[int | None, int]:
    """Return the number of rows of a batch, None for a single row, and the status that the body deserves."""
    if b"application/json" not in head:
        return None, 415
    try:
        asked = json.loads(body)
    except ValueError:
        return None, 400
    if not isinstance(asked, dict):
        return None, 422
    if "rows" in asked:
        return len(asked["rows"]), 200
    wrong = not asked or "no_such_field" in asked or any(isinstance(value, list) for value in asked.values())
    return None, 422 if wrong else 200


async def serve(latency_model: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Service(latency_model), latency_model["host"], latency_model["port"], backlog=1024
    )
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    random.seed(1)
    asyncio.run(serve(DEFAULTS | json.loads(sys.argv[1])))
