"""Whether an engine can take an installation: new enough, a manager of a swarm, with the ports free."""

import re
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipelines.adapters.images.engine_client import OLDEST
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import EngineUnavailable, PortTaken, TargetUnavailable

UNIX = "unix://"
# Less, and databases, logs or a pulled release soon fail where they stand.
FREE_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Node:
    """The engine's node in its swarm, and the group that may use the engine's socket.

    `data` is where the engine keeps what it has, None on another machine.
    """

    id: str
    socket_path: str
    socket_gid: int
    data: Path | None = None


def check_engine(engine: DockerEngine, url: str) -> Node:
    """Return the engine's node; raise EngineUnavailable or TargetUnavailable with what to do."""
    try:
        with engine.api() as api:
            version, info = str(api.version()["Version"]), api.info()
    except TargetUnavailable as error:
        raise EngineUnavailable(
            f"no container engine answers at {url}: {error.message}", next='start it, or "make offline"'
        ) from error
    swarm = info["Swarm"]
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise EngineUnavailable(f"the engine is {version}, which is older than {oldest}", next="install a newer one")
    if swarm["LocalNodeState"] != "active":
        raise TargetUnavailable(
            f"the engine is in no swarm ({swarm['LocalNodeState']})",
            next="docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377",
        )
    if not swarm["ControlAvailable"]:
        raise TargetUnavailable("the engine is a worker of its swarm", next="set DOCKER_HOST to a manager's engine")
    if not url.startswith(UNIX):
        return Node(id=swarm["NodeID"], socket_path="/var/run/docker.sock", socket_gid=0)
    path = Path(url.removeprefix(UNIX))
    data = Path(info.get("DockerRootDir") or "/")
    return Node(id=swarm["NodeID"], socket_path=str(path), socket_gid=path.stat().st_gid, data=data)


def check_disk(root: Path) -> None:
    """Raise TargetUnavailable when the disk that an engine keeps `root` on, if it is seen from here, is nearly full."""
    free = shutil.disk_usage(root).free if root.exists() else FREE_BYTES
    if free < FREE_BYTES:
        raise TargetUnavailable(
            f"the engine's disk is nearly full: {free / 1e9:.1f} of {FREE_BYTES / 1e9:.1f} GB free in {root}",
            next='make room, then do it again; "docker system df" shows what takes it',
        )


def check_ports(engine: DockerEngine, ports: Mapping[str, int], *, address: str, prefix: str) -> None:
    """Raise PortTaken for the first port that something else than the installation `prefix` holds."""
    published = _published(engine)
    for name, port in ports.items():
        container = published.get(port, "")
        if container.startswith((f"{prefix}-edge", f"{prefix}-images")) or _is_free(address, port):
            continue
        holder = f" by container {container}" if container else _process_on(port)
        raise PortTaken(f"port {port} of {name} is taken{holder}", next=f"end that, or set SLIPWAY_PORT_{name.upper()}")


def _published(engine: DockerEngine) -> dict[int, str]:
    with engine.api() as api:
        containers = api.containers()
    return {
        port["PublicPort"]: container["Names"][0].lstrip("/")
        for container in containers
        for port in container.get("Ports") or []
        if port.get("PublicPort")
    }


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def _process_on(port: int) -> str:
    try:
        listening = [each for each in psutil.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied:
        return ""
    pids = [each.pid for each in listening if each.pid and each.laddr and each.laddr.port == port]
    return f" by process {pids[0]} ({psutil.Process(pids[0]).name()})" if pids else ""
