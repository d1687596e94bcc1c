"""Real replicas for tests: gunicorn on sockets that the test owns, started as the supervisor starts them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[3]
DEADLINE_S = 30.0


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    """Yield a TCP socket on a free port of 127.0.0.1, as a slot's shared socket."""
    with socket.create_server(("127.0.0.1", 0)) as shared:
        yield shared


def release(path: Path, digest: str, *, version: str = "1") -> dict[str, str]:
    """Return the environment variables of a release of a toy bundle."""
    return {
        "SLIPWAY_BUNDLE_DIR": str(path),
        "SLIPWAY_BUNDLE_DIGEST": digest,
        "SLIPWAY_MODEL": "toy-model",
        "SLIPWAY_VERSION": version,
        "SLIPWAY_STAGE": "Production",
    }


class ReplicaProcess:
    """One gunicorn on a shared socket and a private one; ended with its worker at the end of the block."""

    def __init__(self, directory: Path, environ: dict[str, str], shared: socket.socket, *options: str) -> None:
        self.port: int = shared.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = directory / f"replica-{time.monotonic_ns()}.log"
        # Short, and unique: a unix socket's path is limited to about 100 bytes.
        self._private = Path(f"/tmp/replica-{os.getpid()}-{time.monotonic_ns()}.sock")
        with socket.socket(socket.AF_UNIX) as private, self._log.open("wb") as log:
            private.bind(str(self._private))
            private.listen(16)
            fds = (shared.fileno(), private.fileno())
            binds = [part for fd in fds for part in ("-b", f"fd://{fd}")]
            command = [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "app/gunicorn.conf.py")]
            self.process = subprocess.Popen(
                [*command, *options, *binds, "app.main:create_app()"],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], **environ},
                pass_fds=fds,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> "ReplicaProcess":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=DEADLINE_S)
        self._private.unlink(missing_ok=True)

    def lines(self) -> list[str]:
        """Return what it has written to stderr."""
        return self._log.read_text().splitlines()

    def events(self) -> list[dict[str, Any]]:
        """Return its log lines, every one of which must be JSON."""
        return [json.loads(line) for line in self.lines()]

    def get(self, path: str) -> httpx.Response:
        """Ask on the private socket."""
        transport = httpx.HTTPTransport(uds=str(self._private))
        with httpx.Client(transport=transport, timeout=5.0, trust_env=False) as client:
            return client.get(f"http://replica{path}")

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds()`; fail with the log when it does not in time."""
        deadline = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < deadline, "\n".join(self.lines())
            time.sleep(0.01)

    def until_alive(self) -> httpx.Response:
        """Return the first answer of /ready; fail with the log when there is none in time."""
        return self.until_answer(lambda _: True)

    def until_answer(self, good: Callable[[httpx.Response], bool]) -> httpx.Response:
        """Return the first answer of /ready that is `good`; fail with the log when there is none in time."""
        deadline = time.monotonic() + DEADLINE_S
        last: object = None
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                last = answer = self.get("/ready")
                if good(answer):
                    return answer
            except httpx.TransportError as error:
                last = error
            time.sleep(0.02)
        raise AssertionError(f"exit {self.process.poll()}, last {last!r}, log:\n" + "\n".join(self.lines()))

    def until_exit(self) -> int:
        """Return the exit status."""
        return self.process.wait(timeout=DEADLINE_S)
