"""Two container engines on one machine, each in a network namespace of its own, joined by a bridge and in one swarm.

They share nothing with the engine of this machine, which is only read from: the images come from there.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import docker

from pipelines.errors import SlipwayError, UsageError

READY_S = 60.0
END_S = 30.0
_POLL_S = 0.1
PROGRAMS = ("dockerd", "ip", "iptables", "nsenter")


@dataclass
class Node:
    """One engine: its address on the bridge, the link that leads there, and its client while it runs."""

    name: str
    address: str
    link: str
    place: Path
    process: "subprocess.Popen[bytes] | None" = None
    _clients: list[docker.DockerClient] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where its engine listens."""
        return f"unix://{self.place}/engine.sock"

    @property
    def client(self) -> docker.DockerClient:
        """A client of its engine."""
        if not self._clients:
            self._clients.append(docker.DockerClient(self.url, version="auto", timeout=120))
        return self._clients[0]

    def start(self, subnet: str) -> None:
        """Start its engine and wait until that answers."""
        inside = ["nsenter", f"--net=/run/netns/{self.name}"]
        command = ["dockerd", "--host", self.url, "--data-root", str(self.place / "data")]
        command += ["--exec-root", str(self.place / "run"), "--pidfile", str(self.place / "engine.pid")]
        command += ["--no-new-privileges", "--insecure-registry", subnet]
        with (self.place / "engine.log").open("ab") as output:
            self.process = subprocess.Popen(
                [*inside, *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        await_that(self._answers, f"the engine {self.name}, whose log is {self.place}/engine.log,", READY_S)

    def cut(self) -> None:
        """Take its network away."""
        _run("ip", "link", "set", self.link, "down")

    def mend(self) -> None:
        """Give its network back."""
        _run("ip", "link", "set", self.link, "up")

    def kill(self) -> None:
        """End all of it at once, engine and containers, as a machine ends that loses its power."""
        for process in self._processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if self.process:
            self.process.wait()
        self.process = None

    def remove(self) -> None:
        """End its engine and what is left of it."""
        for client in self._clients:
            client.close()
        if self.process:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(END_S)
        self.kill()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((each for each in mounts if each.startswith(f"{self.place}/")), reverse=True):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)

    def _answers(self) -> bool:
        if self.process and self.process.poll() is not None:
            raise SlipwayError(f"the engine {self.name} ended at its start; see {self.place}/engine.log")
        with suppress(Exception):
            return bool(self.client.ping())
        self._clients.clear()
        return False

    def _processes(self) -> list[int]:
        """Return engine, containers and what keeps them: all whose command or control group names this place."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if str(self.place).encode() in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
        return found + self._children(found)

    def _children(self, parents: list[int]) -> list[int]:
        """Return what the shims have started, which names no place by itself."""
        by_parent: dict[int, list[int]] = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError, IndexError):
                stat = (process / "stat").read_text().rpartition(")")[2].split()
                by_parent.setdefault(int(stat[1]), []).append(int(process.name))
        found, left = list[int](), list(parents)
        while left:
            children = by_parent.get(left.pop(), [])
            found += children
            left += children
        return found


@dataclass(frozen=True)
class Swarm:
    """A manager and a worker; `subnet` is theirs and this machine's."""

    manager: Node
    worker: Node
    subnet: str
    host: str


@contextmanager
def two_engines(place: Path, images: Sequence[str], report_progress: Callable[[str], None]) -> Iterator[Swarm]:
    """Make both with their swarm, give the manager's engine `images` of this machine's, and remove everything.

    Raises UsageError where that is impossible.
    """
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        raise UsageError(f"{', '.join(missing)} missing", next="install them; it also takes root")
    bridge, net = f"sw{secrets.token_hex(2)}", f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
    with ExitStack() as stack:
        _bridge(stack, bridge, f"{net}.254")
        nodes = [_node(stack, place, bridge, number=number, net=net) for number in (1, 2)]
        for node in nodes:
            stack.callback(node.remove)
            node.start(f"{net}.0/24")
            report_progress(f"engine {node.name} answers at {node.url}")
        manager, worker = nodes
        _copy(images, manager)
        report_progress(f"{len(images)} images copied")
        manager.client.swarm.init(advertise_addr=manager.address, listen_addr=f"{manager.address}:2377")
        token = manager.client.swarm.attrs["JoinTokens"]["Worker"]
        worker.client.swarm.join([f"{manager.address}:2377"], token, advertise_addr=worker.address)
        yield Swarm(manager, worker, f"{net}.0/24", f"{net}.254")


def await_that(holds: Callable[[], bool], what: str, limit_s: float) -> float:
    """Return the seconds until something holds; raise SlipwayError with `what` when it does not in time."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > limit_s:
            raise SlipwayError(f"{what} took more than {limit_s:g} s")
        time.sleep(_POLL_S)
    return time.monotonic() - begun


def _bridge(stack: ExitStack, bridge: str, address: str) -> None:
    _run("ip", "link", "add", bridge, "type", "bridge")
    stack.callback(_run, "ip", "link", "delete", bridge)
    _run("ip", "address", "add", f"{address}/24", "dev", bridge)
    _run("ip", "link", "set", bridge, "up")
    # Where an engine of this machine has its rules, nothing crosses a bridge that they do not know.
    rule = ("FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT")
    _run("iptables", "-I", *rule)
    stack.callback(_run, "iptables", "-D", *rule)


def _node(stack: ExitStack, place: Path, bridge: str, *, number: int, net: str) -> Node:
    name, link, address = f"{bridge}n{number}", f"{bridge}v{number}", f"{net}.{number}"
    folder = place / name
    folder.mkdir()
    _run("ip", "netns", "add", name)
    stack.callback(subprocess.run, ["ip", "netns", "delete", name], capture_output=True, check=False)
    _run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
    _run("ip", "link", "set", link, "master", bridge, "up")
    for words in (
        ("address", "add", f"{address}/24", "dev", "eth0"),
        ("link", "set", "eth0", "up"),
        ("link", "set", "lo", "up"),
        ("route", "add", "default", "via", f"{net}.254"),
    ):
        _run("ip", "-netns", name, *words)
    return Node(name, address, link, folder)


def _copy(images: Sequence[str], node: Node) -> None:
    """Bring images of this machine's engine into another, with all of them in one stream."""
    saving = subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE)
    loading = subprocess.run(
        ["docker", "--host", node.url, "load", "--quiet"], stdin=saving.stdout, capture_output=True, check=False
    )
    if saving.wait() or loading.returncode:
        raise SlipwayError(f"the images could not be copied: {loading.stderr.decode(errors='replace')[-300:]}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"{' '.join(command)}: {done.stderr.strip()}", next="it takes root; run the benchmark as root")
