"""Reads a request's head and body for every protocol; never buffers more than the limit."""

import os
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

from app.errors import RequestError
from app.protocols.budget import SPARED_BYTES, Budget

Headers = Iterable[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_JSON = b"application/json"
# More than the server takes, but for zeros in front.
_DIGITS = 20


class ClientLeft(Exception):
    """The client closed the connection before its request was answered; there is nobody to answer."""


class RequestHead:
    """What the headers say that matters to a prediction; a request id is taken over or made."""

    __slots__ = ("content_encoding", "content_length", "content_type", "request_id")

    def __init__(self, headers: Headers) -> None:
        self.content_type = self.content_encoding = b""
        self.content_length = 0
        offered = b""
        for name, value in headers:
            if name == b"content-type":
                self.content_type = value
            elif name == b"content-length":
                # The server has parsed it already: it is a number, of which Python reads some thousand digits only.
                self.content_length = int(value[-_DIGITS:])
            elif name == b"content-encoding":
                self.content_encoding = value
            elif name == b"x-request-id":
                offered = value
        # fullmatch: what is returned in a header must not hold a line end.
        self.request_id = offered.decode() if _REQUEST_ID.fullmatch(offered) else os.urandom(16).hex()

    def check(self, limit_bytes: int) -> None:
        """Raise RequestError for a body that is not plain JSON (415) or announced as too large (413)."""
        if self.content_encoding not in (b"", b"identity"):
            raise _unsupported("send the body without Content-Encoding")
        if self.content_type != _JSON and self.content_type.split(b";")[0].strip().lower() != _JSON:
            raise _unsupported("send the body as Content-Type: application/json")
        if self.content_length > limit_bytes:
            raise _too_large(limit_bytes)


async def read_body(head: RequestHead, receive: Receive, limit_bytes: int, budget: Budget) -> bytes | bytearray:
    """Return the whole body; raise RequestError (413, 415, 503), or ClientLeft.

    What is not small counts in the budget until `head` is released there; what comes in more than one piece may lose
    its room there. How long it may take is the connection's to watch.
    """
    head.check(limit_bytes)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientLeft
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        async with budget.reading(head):
            return await _read_rest(head, body, receive, limit_bytes, budget)
    if len(body) > limit_bytes:
        raise _too_large(limit_bytes)
    if len(body) > SPARED_BYTES:
        await budget.grow(head, len(body))
    return body


async def _read_rest(head: RequestHead, begun: bytes, receive: Receive, limit_bytes: int, budget: Budget) -> bytearray:
    body = bytearray()
    piece, more = begun, True
    while True:
        if len(body) + len(piece) > limit_bytes:
            raise _too_large(limit_bytes)
        await budget.grow(head, len(piece))
        body += piece
        if not more:
            return body
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        piece, more = message.get("body", b""), message.get("more_body", False)


def _too_large(limit_bytes: int) -> RequestError:
    text = f"the body is larger than {limit_bytes} bytes"
    return RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", text)


def _unsupported(text: str) -> RequestError:
    return RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", text)
