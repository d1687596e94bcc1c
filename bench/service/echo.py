"""The floor under every service of this worker: an ASGI application that reads a body and answers a constant."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from bench.support.place import Place
from pipelines.errors import SlipwayError

Message = MutableMapping[str, Any]
READY_WITHIN_S = 30.0
STOP_S = 20.0
_BODY = b'{"prediction":"No","probability":0.5,"model":"echo","version":"0","request_id":"0"}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))]


class SilentLog:
    """Takes the worker's lifecycle lines, which are of no interest here."""

    def write(self, level: object, event: str, **fields: object) -> None:
        """Drop a line."""


class Echo:
    """What the worker asks of a service, and nothing behind it."""

    def __init__(self) -> None:
        self.log = SilentLog()

    def drain(self) -> None:
        """Go on answering until the worker has ended."""

    def note_restarts(self, restarts: int) -> None:
        """Tell nobody."""

    def count_refusal(self, status: int) -> None:
        """Count nothing."""

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Read the whole body, then answer."""
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _BODY})


def create_echo() -> Echo:
    """Return the application, for gunicorn."""
    return Echo()


@contextmanager
def running_echo(place: Place) -> Iterator[int]:
    """Serve the echo with a replica's own gunicorn settings and worker; yield its port."""
    log = place.workdir / "echo.log"
    with socket.create_server(("127.0.0.1", 0)) as shared, log.open("wb") as output:
        port = int(shared.getsockname()[1])
        gunicorn = [sys.executable, "-m", "gunicorn", "-c", "app/gunicorn.conf.py"]
        process = subprocess.Popen(
            [*gunicorn, "-b", f"fd://{shared.fileno()}", "bench.service.echo:create_echo()"],
            cwd=place.settings.root,
            env=place.child_environ,
            pass_fds=[shared.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            _wait_ready(process, port)
            yield port
        finally:
            _end(process)


def _wait_ready(process: "subprocess.Popen[bytes]", port: int) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + READY_WITHIN_S
    last: object = None
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with opener.open(f"http://127.0.0.1:{port}/", timeout=2):
                return
        except OSError as error:
            last = error
            time.sleep(0.02)
    raise SlipwayError(f"the echo did not answer (exit status {process.poll()}, last: {last})")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Let the master end its worker; after STOP_S end the whole session, for the worker would go on."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_S)
