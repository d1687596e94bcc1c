"""Reads what the tasks of a Swarm wrote, giving up on a node that does not answer."""

import time
from collections.abc import Collection
from typing import Any

from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import TargetUnavailable

TIMEOUT_S = 5.0
_FRAME_HEAD = 8


def read_task_log(engine: DockerEngine, task_id: str, lines: int, *, dated: bool = False) -> list[str]:
    """Return the last lines that a task wrote, each with its time before it if `dated`; raise TargetUnavailable."""
    wanted = {"stdout": True, "stderr": True, "tail": lines, "timestamps": dated}
    with engine.api() as api:
        # The SDK's own way waits for ever where a node does not answer.
        url = f"{api.base_url}/v{api.api_version}/tasks/{task_id}/logs"
        reply = api.get(url, params=wanted, timeout=TIMEOUT_S)
        reply.raise_for_status()
    return [line for line in _unframed(reply.content).splitlines() if line.strip()][-lines:]


def read_logs(engine: DockerEngine, tasks: Collection[dict[str, Any]], lines: int) -> list[str]:
    """Return the last lines that several tasks wrote together; where a log can't be read, why.

    A node that does not answer is waited for once.
    """
    told: list[str] = []
    refused: dict[str, None] = {}
    silent: set[str] = set()
    for task in tasks:
        node, container = task.get("NodeID", ""), task["Status"].get("ContainerStatus") or {}
        if node in silent or not container.get("ContainerID"):
            continue
        began = time.monotonic()
        try:
            told += read_task_log(engine, task["ID"], lines, dated=True)
        except TargetUnavailable as error:
            refused[f"(a log can't be read: {error.message})"] = None
            if time.monotonic() - began >= TIMEOUT_S:
                silent.add(node)
    return [*refused, *(line.partition(" ")[2] for line in sorted(told)[-lines:])]


def _unframed(content: bytes) -> str:
    """Return the text of a log that comes in frames: one byte for the stream, four for the length, the bytes."""
    text = bytearray()
    while len(content) > _FRAME_HEAD:
        length = int.from_bytes(content[4:_FRAME_HEAD], "big")
        text += content[_FRAME_HEAD : _FRAME_HEAD + length]
        content = content[_FRAME_HEAD + length :]
    return text.decode(errors="replace")
