"""Asks who sends a request, and how much, before MLflow does: strangers cost it a bounded work, and nobody all memory.

MLflow keeps the whole of a body in memory, and asks only then who sent it; but for a file, which goes to the disk. And
it compares each password that it has not seen for a while, which takes a tenth of a second of CPU and tens of
megabytes. Here two are compared at a time: one of a stranger, and one that was right before, so that guesses keep
nobody out who is known.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

import anyio
from anyio import to_thread

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]
Ask = Callable[[str, str], bool]

# So many strangers are compared or wait for it; whoever comes then is told to come again.
MOST_STRANGERS = 16
# More than MLflow's own client sends at once.
MOST_BODY_BYTES = 4 * 1024 * 1024
_MOST_DIGITS = 12
# MLflow would read a login from it too.
_OTHER_LOGIN = b"x-mlflow-authorization"


class _Refusal(NamedTuple):
    status: int
    text: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


_UNKNOWN = _Refusal(
    401, b"Send a user and password that this registry knows.\n", ((b"www-authenticate", b'Basic realm="mlflow"'),)
)
_BUSY = _Refusal(429, b"Too many passwords are being compared: send it again.\n", ((b"retry-after", b"1"),))
_UNSIZED = _Refusal(411, b"Say how long the body is: Content-Length.\n")
_TOO_LARGE = _Refusal(413, f"A body has {MOST_BODY_BYTES:,} bytes at most, but for a file's.\n".encode())


class Door:
    """An ASGI app in front of MLflow's: whoever is not known gets 401, whatever else would come is not read.

    `remembered` says at no cost whether a user and password were found right lately, and `compare` whether they are.
    Who sends neither may ask without a body, for what MLflow answers to everybody. `is_file` says of a request whether
    MLflow writes its body to a file as it comes.
    """

    def __init__(self, app: Asgi, *, is_file: Callable[[Message], bool], remembered: Ask, compare: Ask) -> None:
        self._app = app
        self._is_file = is_file
        self._remembered = remembered
        self._compare = compare
        self._strangers = _Lane()
        self._returning = _Lane()
        self._key = secrets.token_bytes(32)
        # Digests of what was right: not more than there are users, and passwords that they had.
        self._once_right: set[bytes] = set()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it by its head."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = await self._stranger(scope) or self._size(scope)
        if refusal is None:
            plain = [each for each in scope["headers"] if each[0] != _OTHER_LOGIN]
            await self._app({**scope, "headers": plain}, receive, send)
            return
        headers = [
            *refusal.headers,
            (b"content-type", b"text/plain"),
            (b"content-length", str(len(refusal.text)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await send({"type": "http.response.body", "body": refusal.text})

    def _size(self, scope: Message) -> _Refusal | None:
        if not _has_body(scope) or self._is_file(scope):
            return None
        told = [value for name, value in scope["headers"] if name == b"content-length"]
        if len(told) != 1 or not told[0].isdigit() or any(name == b"transfer-encoding" for name, _ in scope["headers"]):
            return _UNSIZED
        return _TOO_LARGE if len(told[0]) > _MOST_DIGITS or int(told[0]) > MOST_BODY_BYTES else None

    async def _stranger(self, scope: Message) -> _Refusal | None:
        told = [value for name, value in scope["headers"] if name == b"authorization"]
        if not told:
            return _UNKNOWN if _has_body(scope) else None
        login = _login(told[0]) if len(told) == 1 else None
        if login is None:
            return _UNKNOWN
        if self._remembered(*login):
            return None
        digest = hmac.digest(self._key, repr(login).encode(), hashlib.sha256)
        known = digest in self._once_right
        if not known and self._strangers.inside >= MOST_STRANGERS:
            return _BUSY
        lane = self._returning if known else self._strangers
        if await lane.run(self._is_right, *login):
            self._once_right.add(digest)
            return None
        self._once_right.discard(digest)
        return _UNKNOWN

    def _is_right(self, user: str, password: str) -> bool:
        # Another request may have brought the same while this one waited.
        return self._remembered(user, password) or self._compare(user, password)


class _Lane:
    """Lets one comparison run at a time, and counts those who wait with it."""

    def __init__(self) -> None:
        self.inside = 0
        self._limiter = anyio.CapacityLimiter(1)

    async def run(self, ask: Ask, user: str, password: str) -> bool:
        self.inside += 1
        try:
            return await to_thread.run_sync(ask, user, password, limiter=self._limiter)
        finally:
            self.inside -= 1


def _has_body(scope: Message) -> bool:
    sent = dict(scope["headers"])
    return b"transfer-encoding" in sent or sent.get(b"content-length", b"0").strip(b"0") != b""


def _login(header: bytes) -> tuple[str, str] | None:
    """Return user and password; None for all that MLflow's two ways to read it might not read alike."""
    scheme, _, coded = header.partition(b" ")
    try:
        user, colon, password = base64.b64decode(coded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return (user, password) if scheme.lower() == b"basic" and colon else None
