"""The gunicorn worker: stops without resetting a connection, and says why it could not start.

The draining server uses uvicorn's `servers`, `server_state` and `shutdown`, which are not public: uvicorn is
pinned, and a test stops a real replica under load.
"""

import asyncio
import os
import socket
import sys
from typing import Any

from gunicorn.arbiter import Arbiter
from uvicorn.config import Config
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from app.connection import ReplicaProtocol
from app.connections import Connections
from app.errors import StartupError, TooLate
from app.logs import EventLog, Level
from app.watchdog import Watchdog

DRAIN_S = 2.0
_POLL_S = 0.02


class DrainingServer(Server):
    """A uvicorn server that gives its clients time to leave; stock uvicorn resets idle ones at once."""

    server_state: Connections

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.server_state = Connections()

    async def watched(self, sockets: list[socket.socket]) -> None:
        """Serve until told to stop; end the process when the event loop stands still meanwhile."""
        watchdog = Watchdog(lambda: self.server_state.sweeps, self._give_up)
        watchdog.start()
        sweeping = asyncio.create_task(self.server_state.keep_sweeping())
        try:
            await self.serve(sockets=sockets)
        finally:
            watchdog.end()
            sweeping.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, answer with `Connection: close`, wait up to 2 s for connections, then shut down."""
        service: Any = self.config.app
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        service.drain()
        # In place: requests that are being answered hold this list.
        self.server_state.default_headers.append((b"connection", b"close"))
        service.log.write(Level.INFO, "draining", connections=len(self.server_state.connections))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + DRAIN_S
        while self.server_state.connections and loop.time() < deadline:
            await asyncio.sleep(_POLL_S)
        left = len(self.server_state.connections)
        await super().shutdown(sockets)
        service.log.write(Level.INFO, "stopped", connections_closed=left)

    def _give_up(self) -> None:
        told = self.server_state.answer_all(TooLate("the service was busy with one request for too long"))
        service: Any = self.config.app
        service.log.write(Level.ERROR, "stuck", pid=os.getpid(), requests=told)


class DrainingWorker(UvicornWorker):  # type: ignore[misc]  # gunicorn has no types
    """The one worker of a replica."""

    CONFIG_KWARGS: dict[str, Any] = {  # noqa: RUF012  # the base class declares it so
        "loop": "uvloop",
        "http": ReplicaProtocol,
        "ws": "none",
        "lifespan": "off",
        "interface": "asgi3",
        "proxy_headers": False,
        "server_header": False,
        "access_log": False,
        # Shorter than gunicorn's graceful_timeout: a stuck request is cancelled, not the process killed.
        "timeout_graceful_shutdown": 5,
    }

    def load_wsgi(self) -> None:
        """Make the service, or end with the reason as the last log line and gunicorn's boot-error status."""
        try:
            super().load_wsgi()
        except StartupError as error:
            EventLog().write(Level.ERROR, "start_failed", kind=type(error).__name__, reason=str(error))
            # gunicorn stops at this status instead of starting workers for ever.
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        # gunicorn numbers the workers of a master from 1.
        self.wsgi.note_restarts(self.age - 1)

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = DrainingServer(config=self.config)
        self._install_sigquit_handler()
        self.wsgi.log.write(Level.INFO, "serving", pid=self.pid)
        await server.watched(self.sockets)
