"""Runs the API of one home on its port; it tells which installation it is of, and serves no other's clients."""

import contextlib
import resource
from types import FrameType
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.api.app import create_app
from pipelines.api.responses import AsciiJson
from pipelines.api.state import ApiState
from pipelines.errors import OtherInstallation
from pipelines.settings.installation import HEADER

if TYPE_CHECKING:
    import uvicorn

# As long as a request may wait for another writer of the database, and for the registry.
REQUESTS_END_S = 20
# So much of a head is kept while the rest of it is waited for.
MAX_HEAD_BYTES = 16 << 10


def serve_api(state: ApiState, *, installation: str | None, host: str, port: int) -> None:
    """Serve until SIGTERM; requests under way are answered, and streams end, which their clients take up elsewhere."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            state.feed.end()
            super().handle_exit(sig, frame)

    _raise_file_limit()
    app: ASGIApp = create_app(state)
    if installation:
        app = OwnClients(app, installation)
    Server(server_config(app, host=host, port=port)).run()


def server_config(app: ASGIApp, *, host: str, port: int) -> "uvicorn.Config":
    """Return how the API is served: with bounded heads and patience, and offers of another protocol ignored."""
    import uvicorn

    from pipelines.api.connection import ApiProtocol

    return uvicorn.Config(
        app,
        host=host,
        port=port,
        # What uvicorn warns of is what strangers send, which would fill the log.
        log_level="error",
        lifespan="off",
        timeout_graceful_shutdown=REQUESTS_END_S,
        # Slower than the other parser, which buffers heads without end and drops the body after an offer.
        http=ApiProtocol,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        ws="none",
    )


def _raise_file_limit() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class OwnClients:
    """Names the installation in every answer, and refuses who means another before anything is done."""

    def __init__(self, app: ASGIApp, installation: str) -> None:
        self._app = app
        self._installation = installation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = self._installation
            await send(message)

        meant = Headers(scope=scope).get(HEADER, self._installation)
        app = self._app if meant == self._installation else self._refusal(meant)
        await app(scope, receive, named)

    def _refusal(self, meant: str) -> AsciiJson:
        refusal = OtherInstallation(
            f"this is the API of installation {self._installation}, not of {meant[:40]!r}",
            next="name the home of this installation by SLIPWAY_HOME, or give yours other ports",
        )
        return AsciiJson({"error": refusal.as_dict()}, 400)
