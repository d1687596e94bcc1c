"""Asks who sends a body before it is read: MLflow keeps the whole of it in memory, and asks only then."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from flask import Response
from mlflow.server import app as flask_app
from mlflow.server import auth
from starlette.concurrency import run_in_threadpool

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]

_UNKNOWN = b"Send a user and password that this registry knows before a body.\n"


class Door:
    """An ASGI app in front of MLflow's: whoever is not known gets 401, whatever else would come is not read."""

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it by its head."""
        if scope["type"] != "http" or not _has_body(scope) or await run_in_threadpool(_is_known, scope):
            await self._app(scope, receive, send)
            return
        headers = [
            (b"www-authenticate", b'Basic realm="mlflow"'),
            (b"content-type", b"text/plain"),
            (b"content-length", str(len(_UNKNOWN)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": _UNKNOWN})


def _has_body(scope: Message) -> bool:
    sent = dict(scope["headers"])
    return b"transfer-encoding" in sent or sent.get(b"content-length", b"0").strip(b"0") != b""


def _is_known(scope: Message) -> bool:
    """Ask MLflow itself, as it would ask with the body."""
    told = [("Authorization", value.decode("latin-1")) for name, value in scope["headers"] if name == b"authorization"]
    with flask_app.test_request_context(headers=told[:1]):
        return not isinstance(auth.authenticate_request(), Response)
