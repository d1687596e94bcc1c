"""Asks a replica by its own address, which is on its environment's network alone, whether it is ready, and for what."""

import http.client
from collections.abc import Callable
from typing import Any

from pipelines.adapters.exchange import deadline
from pipelines.documents import parse_json
from pipelines.ports import HttpReply

_LIMIT_S = 2.0
_REPLY_LIMIT_BYTES = 65_536

Ask = Callable[[str], HttpReply | None]


def ask_directly(address: str, limit_s: float = _LIMIT_S) -> HttpReply | None:
    """Ask `host:port` for `/ready` on a connection of its own; None when no whole answer comes in time."""
    connection = http.client.HTTPConnection(address, timeout=limit_s)
    try:
        # Addresses pass from replica to replica: a kept connection could be one to a predecessor.
        with deadline(limit_s) as until:
            connection.connect()
            until.watch(connection.sock)
            connection.request("GET", "/ready", headers={"Connection": "close"})
            reply = connection.getresponse()
            content = reply.read(_REPLY_LIMIT_BYTES)
        return HttpReply(reply.status, _object(content), dict(reply.headers))
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _object(text: bytes) -> dict[str, Any]:
    body = parse_json(text)
    if not isinstance(body, dict):
        raise ValueError(f"not an object: {body!r}")
    return body
