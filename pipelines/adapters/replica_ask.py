"""Asks a replica by its own address whether it is ready, and for what.

Replicas can be reached from their environment's network alone. Whoever stands on it asks directly; whoever does not
asks from within a container that does, such as the edge, if that runs on the engine at hand.
"""

import http.client
import json
from collections.abc import Callable
from typing import Any

from pipelines.adapters.docker_engine import DockerEngine
from pipelines.ports import Answer

_LIMIT_S = 2.0
_REPLY_LIMIT_BYTES = 65_536
_GET = 'exec 3<>"/dev/tcp/$1/$2" && printf "GET /ready HTTP/1.0\\r\\nHost: $1\\r\\n\\r\\n" >&3 && cat <&3'

Ask = Callable[[str], Answer | None]


def ask_directly(address: str, limit_s: float = _LIMIT_S) -> Answer | None:
    """Ask `host:port` for `/ready` on a connection of its own; None when no whole answer comes in time."""
    connection = http.client.HTTPConnection(address, timeout=limit_s)
    try:
        # Addresses pass from replica to replica: a kept connection could be one to a predecessor.
        connection.request("GET", "/ready", headers={"Connection": "close"})
        reply = connection.getresponse()
        return Answer(reply.status, _object(reply.read(_REPLY_LIMIT_BYTES)), dict(reply.headers))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


class AskFromInside:
    """Asks from within the running container `name`, which needs bash and no more.

    Raises TargetUnavailable when the container itself is not there.
    """

    def __init__(self, engine: DockerEngine, name: str) -> None:
        self._engine = engine
        self._name = name

    def __call__(self, address: str) -> Answer | None:
        """Ask as `ask_directly` does."""
        host, _, port = address.rpartition(":")
        command = ["timeout", f"{_LIMIT_S:g}", "bash", "-c", _GET, "bash", host, port]
        status, reply = self._engine.run_inside(self._name, command)
        head, _, body = reply.partition("\r\n\r\n")
        try:
            return Answer(int(head.split(" ", 2)[1]), _object(body), {}) if status == 0 else None
        except (ValueError, IndexError):
            return None


def _object(text: str | bytes) -> dict[str, Any]:
    body = json.loads(text)
    if not isinstance(body, dict):
        raise ValueError(f"not an object: {body!r}")
    return body
