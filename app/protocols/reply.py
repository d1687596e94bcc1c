"""Answers a request: a long answer in pieces, as fast as its reader takes them."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from app.errors import RETRY_AFTER_S, Busy, RequestError, error_body
from app.protocols.request import ClientLeft

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# For the work, and then for the reader; an edge in front has to wait longer for an answer's first byte.
DEADLINE_S = 25.0
# As much as a connection buffers before it tells that it is full.
_PIECE_BYTES = 1 << 16


class Reply(msgspec.Struct):
    """A finished answer; `body` is JSON, `refusal` what kept the request from its prediction."""

    status: int
    body: bytes | bytearray
    request_id: str
    refusal: RequestError | None = None


def refused(error: RequestError, request_id: str) -> Reply:
    """Return the answer that refuses a request."""
    return Reply(error.status, error_body(error, request_id), request_id, error)


async def send_reply(reply: Reply, send: Send) -> None:
    """Send an answer; raise ClientLeft when its reader does not take it in time."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(reply.body)),
        (b"x-request-id", reply.request_id.encode()),
    ]
    if isinstance(reply.refusal, Busy):
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if len(reply.body) > _PIECE_BYTES:
        await _send_pieces(reply.body, send)
    else:
        await send({"type": "http.response.body", "body": reply.body})


def in_pieces(send: Send) -> Send:
    """Return what sends a long body as `send_reply` does; it raises as that does."""

    async def pieces(message: MutableMapping[str, Any]) -> None:
        body = message.get("body", b"")
        if len(body) > _PIECE_BYTES:
            await _send_pieces(body, send, more=message.get("more_body", False))
        else:
            await send(message)

    return pieces


async def _send_pieces(body: bytes | bytearray, send: Send, *, more: bool = False) -> None:
    try:
        async with asyncio.timeout(DEADLINE_S):
            for at in range(0, len(body), _PIECE_BYTES):
                end = at + _PIECE_BYTES
                await send({"type": "http.response.body", "body": body[at:end], "more_body": more or end < len(body)})
                # Only in another turn of the event loop does the connection tell that it is full.
                await asyncio.sleep(0)
    except TimeoutError:
        raise ClientLeft from None
