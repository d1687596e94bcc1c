"""What every request of the API passes first: one framing, bounds on body and number, and HEAD answered as GET is."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.api.responses import AsciiJson
from pipelines.errors import SlipwayError, Undecided, UsageError

# A policy, the largest thing that is sent, takes a few kilobytes.
MAX_BODY_BYTES = 1 << 20
# Requests that wait for their answer to begin; an event stream that has begun is none of them.
MAX_WAITING = 100


class Door:
    """Wraps an ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._waiting = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; reading more of its body than a megabyte raises the refusal 413."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fault = _ambiguity(scope)
        if fault:
            await _refusal(400, fault, {"Connection": "close"})(scope, receive, send)
        elif self._waiting >= MAX_WAITING and scope["path"] != "/health":
            busy = Undecided("the API has more to do than it can answer in time", next="try again in a moment")
            await _refusal(503, busy, {"Retry-After": "1"})(scope, receive, send)
        else:
            await self._let_in(scope, receive, send)

    async def _let_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = MAX_BODY_BYTES
        waiting = True
        self._waiting += 1

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"the body is larger than {MAX_BODY_BYTES:,} bytes")
            return message

        async def begun(message: Message) -> None:
            stop_waiting()
            await send(message)

        def stop_waiting() -> None:
            nonlocal waiting
            self._waiting -= waiting
            waiting = False

        # The server itself leaves the body of an answer to HEAD out.
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        try:
            await self._app({**scope, "method": method}, bounded, begun)
        finally:
            stop_waiting()


def _ambiguity(scope: Scope) -> UsageError | None:
    """Return what another reader of the same request might see otherwise."""
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers and "content-length" in headers:
        return UsageError("the body has two lengths", next="send Content-Length or Transfer-Encoding")
    if scope["http_version"] not in ("1.0", "1.1"):
        return UsageError(f"this is no HTTP/{scope['http_version']}", next="send the request as HTTP/1.1")
    return None


def _refusal(status: int, refusal: SlipwayError, headers: dict[str, str]) -> AsciiJson:
    return AsciiJson({"error": refusal.as_dict()}, status, headers)
