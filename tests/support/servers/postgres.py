"""A PostgreSQL server for tests: Debian's binaries in a directory of its own, or the image slipway/postgres.

`postgres` is a fixture: one server a session, skipped where the machine has neither.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import psycopg
import pytest
import sqlalchemy as sa

from tests.support.containers.engine import hardened, make_volume, secret_files
from tests.support.containers.needs import skip_without_containers
from tests.support.servers.servers import free_port

SUPERUSER = "postgres"
READY_DEADLINE_S = 60.0
SMALL_MB = 16
SETTINGS = {
    # A killed server loses nothing of this: the machine goes on.
    "fsync": "off",
    "log_statement": "all",
    "max_connections": "150",
}


class PostgresServer(ABC):
    """A server that a test may stop; `small_directory` is empty and on a file system of `SMALL_MB` of its own."""

    small_directory: str

    def __init__(self) -> None:
        self.password = secrets.token_hex(16)
        self.port = free_port()

    def url(self, database: str = "postgres", role: str = SUPERUSER, password: str = "") -> str:
        """Return a URL of one of its databases, for the superuser unless another role is named."""
        where = ("127.0.0.1", self.port, database)
        url = sa.URL.create("postgresql+psycopg", role, password or self.password, *where)
        return url.render_as_string(hide_password=False)

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it answers."""

    @abstractmethod
    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT is its fast way, SIGQUIT leaves it to recover at its next start."""

    @abstractmethod
    def logs(self) -> str:
        """Return all that it has logged."""

    @contextmanager
    def away(self, how: signal.Signals = signal.SIGINT) -> Iterator[None]:
        """End it for a block, and start it again."""
        self.stop(how)
        try:
            yield
        finally:
            self.start()

    def await_answer(self) -> None:
        """Wait until it answers, or fail with the last error and the end of its log."""
        deadline = time.monotonic() + READY_DEADLINE_S
        last = "not asked"
        while time.monotonic() < deadline:
            try:
                psycopg.connect(self.url().replace("+psycopg", ""), connect_timeout=2).close()
            except psycopg.OperationalError as error:
                last = str(error)
            else:
                return
            time.sleep(0.05)
        raise AssertionError(f"PostgreSQL does not answer: {last}\n{self.logs()[-2000:]}")


class LocalPostgres(PostgresServer):
    """A server run from binaries on this machine, by an ordinary user where the test is root."""

    def __init__(self, binaries: Path, home: Path, *, small: bool) -> None:
        super().__init__()
        self._binaries = binaries
        self._data = home / "data"
        self._log = home / "server.log"
        self._small = small
        self._user = _ordinary_user()
        self._process: subprocess.Popen[bytes] | None = None
        self.small_directory = str(home / "small")
        Path(self.small_directory).mkdir()
        password_file = home / "password"
        password_file.write_text(self.password)
        if self._user:
            for path in (home, password_file):
                os.chown(path, self._user.pw_uid, self._user.pw_gid)
        made = [binaries / "initdb", "-D", self._data, "-U", SUPERUSER, "-A", "scram-sha-256"]
        made += ["--pwfile", password_file, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run([*self._as_user(), *map(str, made)], check=True, capture_output=True, cwd=home)

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        settings = {**SETTINGS, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._mounted(), *self._as_user(), *command],
                cwd="/",
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.await_answer()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End its process."""
        if self._process:
            self._process.send_signal(how)
            self._process.wait(timeout=30.0)
            self._process = None

    def logs(self) -> str:
        """Return its log file."""
        return self._log.read_text(errors="replace")

    def _as_user(self) -> list[str]:
        if not self._user:
            return []
        return ["setpriv", f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups"]

    def _mounted(self) -> list[str]:
        """Return the words that start a command where it alone sees a small file system."""
        if not self._small:
            return []
        if not self._user:
            pytest.skip("to give a server a small disk, the tests must run as root")
        owner = f"uid={self._user.pw_uid},gid={self._user.pw_gid}"
        mount = f'mount -t tmpfs -o size={SMALL_MB}m,mode=0700,{owner} none "$0" && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", mount, self.small_directory]


class ContainerPostgres(PostgresServer):
    """A server in a container of the image slipway/postgres."""

    def __init__(self, engine: docker.DockerClient, image: str, home: Path) -> None:
        super().__init__()
        volumes = secret_files(home / "secrets", postgres=self.password)
        self._container = hardened(image, port=5432, volumes=volumes, data=make_volume(engine), healthy=False)
        # Its own choice would be another one after a restart.
        self._container.ports["5432/tcp"] = ("127.0.0.1", self.port)
        self._container.with_tmpfs_mount("/small", f"size={SMALL_MB}m,mode=1777")
        self._container.with_command([word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")])
        self._made = False
        self.small_directory = "/small/space"

    def start(self) -> None:
        """Start it and wait until it answers."""
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._made = True
            self._container.start()
            self._container.exec(["mkdir", self.small_directory])
        self.await_answer()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End its process and keep the container."""
        self._container.get_wrapped_container().kill(signal=how.name)
        self._container.get_wrapped_container().wait(timeout=30)

    def remove(self) -> None:
        """Remove the container."""
        self._container.stop()

    def logs(self) -> str:
        """Return the container's log."""
        return str(self._container.get_wrapped_container().logs().decode(errors="replace"))


def postgres_binaries() -> Path | None:
    """Return the directory of the newest PostgreSQL installed here."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).resolve().parent if on_path else None


@contextmanager
def running_postgres(request: pytest.FixtureRequest, *, small: bool = False) -> Iterator[PostgresServer]:
    """Run a server for a while, or skip saying why there is none."""
    binaries = postgres_binaries()
    # Not pytest's own directory: the server's user could not enter it.
    home = Path(tempfile.mkdtemp(prefix="slipway-postgres-"))
    try:
        if binaries:
            local = LocalPostgres(binaries, home, small=small)
            try:
                local.start()
                yield local
            finally:
                # Its files are removed, so it need not write them.
                local.stop(signal.SIGQUIT)
        else:
            container = _container(request, home)
            try:
                container.start()
                yield container
            finally:
                container.remove()
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[PostgresServer]:
    """The session's server."""
    with running_postgres(request) as server:
        yield server


def _container(request: pytest.FixtureRequest, home: Path) -> ContainerPostgres:
    try:
        images = request.getfixturevalue("images")
    except pytest.skip.Exception as missing:
        skip_without_containers(f"no PostgreSQL binaries (apt install postgresql), and {missing}")
    home.chmod(0o755)
    return ContainerPostgres(request.getfixturevalue("engine"), images["postgres"], home)


def _ordinary_user() -> pwd.struct_passwd | None:
    """Return who runs the server where the test is root, as whom it refuses to run."""
    if os.geteuid() != 0:
        return None
    return next(user for user in pwd.getpwall() if user.pw_name in ("postgres", "nobody"))
