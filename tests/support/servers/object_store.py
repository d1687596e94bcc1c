"""A MinIO for tests: the binary of this machine, or the image slipway/minio.

`minio` is a fixture: one server a session, skipped where the machine has neither.
"""

import itertools
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from pipelines.adapters.storage.minio_admin import MinioUsers
from pipelines.adapters.storage.object_store import Buckets, S3Access, make_buckets, policies
from tests.support.containers.engine import hardened, make_volume, secret_files
from tests.support.containers.needs import skip_without_containers
from tests.support.servers.servers import await_http, free_port

ROOT = Path(__file__).resolve().parents[3]
READY = "/minio/health/ready"
READY_DEADLINE_S = 60.0

_numbers = itertools.count(1)


class MinioServer(ABC):
    """A server that a test may stop or freeze; `root` is its first user."""

    def __init__(self, host: str = "127.0.0.1", authority: Path | None = None) -> None:
        self.port = free_port()
        endpoint = f"{'https' if authority else 'http'}://{host}:{self.port}"
        self.root = S3Access(endpoint, "root-of-tests", secrets.token_hex(16), authority)

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it is ready."""

    @abstractmethod
    def stop(self) -> None:
        """End it and keep its data."""

    @abstractmethod
    def freeze(self, frozen: bool) -> None:
        """Let it accept connections and answer nothing, or go on."""

    @contextmanager
    def away(self) -> Iterator[None]:
        """End it for a block, and start it again."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Freeze it for a block."""
        self.freeze(True)
        try:
            yield
        finally:
            self.freeze(False)


class LocalMinio(MinioServer):
    """A server run from a binary on this machine, with its data in `home`."""

    def __init__(self, binary: Path, home: Path) -> None:
        super().__init__()
        self._binary = binary
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        settings = {
            "MINIO_ROOT_USER": self.root.access_key,
            "MINIO_ROOT_PASSWORD": self.root.secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        command = [self._binary, "server", "--quiet", "--address", f"127.0.0.1:{self.port}"]
        command += ["--certs-dir", self._home / "certs", self._home / "data"]
        log = self._home / "minio.log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(map(str, command)),
                cwd=self._home,
                env={**os.environ, **settings},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        await_http(f"{self.root.endpoint}{READY}", self._process, log)

    def stop(self) -> None:
        """End its process."""
        if self._process:
            self._process.terminate()
            self._process.wait(timeout=30.0)
            self._process = None

    def freeze(self, frozen: bool) -> None:
        """Stop its process, or let it go on."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)


class ContainerMinio(MinioServer):
    """A server in a container of the image slipway/minio, published on `host`.

    With TLS, `certificates` has its `public.crt`, which it is known by, and `private.key`.
    """

    def __init__(
        self,
        engine: docker.DockerClient,
        image: str,
        home: Path,
        *,
        host: str = "127.0.0.1",
        certificates: Path | None = None,
    ) -> None:
        super().__init__(host, certificates / "public.crt" if certificates else None)
        names = {"MINIO_ROOT_USER": "user", "MINIO_ROOT_PASSWORD": "password"}
        files = secret_files(home / "secrets", user=self.root.access_key, password=self.root.secret_key)
        env = {f"{name}_FILE": f"/run/secrets/{file}" for name, file in names.items()}
        volumes = {**files, **({certificates: "/certs"} if certificates else {})}
        self._container = hardened(image, port=9000, env=env, volumes=volumes, data=make_volume(engine), healthy=False)
        if certificates:
            self._container.with_command("minio server --address :9000 --certs-dir /certs /data")
        # Its own choice would be another one after a restart.
        self._container.ports["9000/tcp"] = (host, self.port)
        self._made = False

    def start(self) -> None:
        """Start it and wait until it is ready."""
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._made = True
            self._container.start()
        self._await_answer()

    def stop(self) -> None:
        """End its process and keep the container."""
        self._container.get_wrapped_container().stop(timeout=30)

    def freeze(self, frozen: bool) -> None:
        """Pause the container, or let it go on."""
        container = self._container.get_wrapped_container()
        container.pause() if frozen else container.unpause()

    def remove(self) -> None:
        """Remove the container."""
        self._container.stop()

    def _await_answer(self) -> None:
        trusted = ssl.create_default_context(cafile=self.root.authority) if self.root.authority else None
        deadline = time.monotonic() + READY_DEADLINE_S
        last = "not asked"
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.root.endpoint}{READY}", timeout=2.0, context=trusted):
                    return
            except OSError as error:
                last = repr(error)
            time.sleep(0.1)
        log = self._container.get_wrapped_container().logs().decode(errors="replace")
        raise AssertionError(f"MinIO is not ready: {last}\n{log[-2000:]}")


class Store:
    """Three buckets and their users on a server, apart from those of other tests."""

    def __init__(self, server: MinioServer, *, retention_days: int = 1) -> None:
        number = next(_numbers)
        self.server = server
        self.buckets = Buckets(f"artifacts-{number}", f"dvc-{number}", f"heads-{number}")
        make_buckets(server.root, self.buckets, retention_days=retention_days)
        users = MinioUsers(server.root)
        self.access = {}
        for client, policy in policies(self.buckets).items():
            self.access[client] = S3Access(server.root.endpoint, f"{client}-{number}", secrets.token_hex(16))
            users.ensure(self.access[client].access_key, self.access[client].secret_key, policy)


def minio_binary() -> Path | None:
    """Return MinIO's binary, from the path or from the tools made for this repository."""
    tools = Path(os.environ.get("SLIPWAY_TOOLS") or ROOT / ".tools") / "bin" / "minio"
    on_path = shutil.which("minio")
    return Path(on_path) if on_path else tools if tools.exists() else None


@pytest.fixture(scope="session")
def minio(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    """The session's server."""
    home = tmp_path_factory.mktemp("minio")
    binary = minio_binary()
    if binary:
        local = LocalMinio(binary, home)
        try:
            local.start()
            yield local
        finally:
            local.stop()
        return
    try:
        images = request.getfixturevalue("images")
    except pytest.skip.Exception as missing:
        skip_without_containers(f"no binary minio on the path or in .tools/bin, and {missing}")
    container = ContainerMinio(request.getfixturevalue("engine"), images["minio"], home)
    try:
        container.start()
        yield container
    finally:
        container.remove()


@pytest.fixture
def store(minio: MinioServer) -> Store:
    """Buckets and users of one test."""
    return Store(minio)
