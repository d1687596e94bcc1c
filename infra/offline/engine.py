"""The container engine: Debian's, started in the background where none answers, and ended by nobody else's hand.

The engine started here is known by its process id and start time; an engine that it finds is left as it is.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from machine import TOOLS, FailedError, RefusedError, docker, install, need_root, run, say, works

HOME = TOOLS / "engine"
RECORD = HOME / "engine.pid"
LOG = HOME / "dockerd.log"
SOCKET = "unix:///var/run/docker.sock"
READY_S = 90.0
STOP_S = 120.0
PACKAGES = ("docker.io", "iptables")
# Since Debian 13 client and builder are packages of their own.
IF_KNOWN = ("docker-cli", "docker-buildx")


def prepare() -> None:
    """Make an engine answer, in a swarm of its own when it is ours."""
    # Empty, it means the same as unset, as to the client.
    host = os.environ.get("DOCKER_HOST") or SOCKET
    if answers():
        say(f"engine: skipped, {version()} answers")
    elif host != SOCKET:
        raise RefusedError(f"DOCKER_HOST={host} does not answer", next="start it, or unset DOCKER_HOST")
    else:
        install(*PACKAGES, if_known=IF_KNOWN)
        # Where a service manager looks after engines, installing one has started it.
        if answers():
            say(f"engine: {version()} was started by this system")
        else:
            _start()
    _join_swarm()


def stop() -> None:
    """End the engine that was started here, with the containers in it; its images and volumes stay."""
    pid = running_pid()
    if pid is None:
        say("engine: none that was started here is running")
        return
    os.kill(pid, signal.SIGTERM)
    _await(lambda: running_pid() is None, STOP_S, f"the engine, process {pid}, does not end")
    RECORD.unlink()
    say(f"engine: process {pid} has ended")


def answers() -> bool:
    """Whether an engine answers to the client."""
    return works(docker(), "version", limit_s=20.0)


def version() -> str:
    """Return the version of the engine that answers."""
    return "version " + run(docker(), "version", "--format", "{{.Server.Version}}").strip()


def running_pid() -> int | None:
    """Return the process of the engine started here, while it lives."""
    if not RECORD.exists():
        return None
    pid, started = RECORD.read_text().split()
    return int(pid) if _started_at(int(pid)) == started else None


def _start() -> None:
    need_root("starting an engine")
    HOME.mkdir(parents=True, exist_ok=True)
    if running_pid() is None:
        pid = _launch()
        RECORD.write_text(f"{pid} {_started_at(pid)}\n")
    _await(lambda: answers() or running_pid() is None, READY_S, f"the engine does not answer; its log is {LOG}")
    if running_pid() is None:
        tail = "\n".join(LOG.read_text(errors="replace").splitlines()[-10:])
        raise FailedError(f"the engine ended at its start:\n{tail}", next="fix what it names, then run it again")
    say(f"engine: {version()} started, process {running_pid()}")


def _launch() -> int:
    pidfile = HOME / "dockerd.pid"
    # A killed engine leaves it behind, and its successor refuses to start once the number is somebody else's.
    pidfile.unlink(missing_ok=True)
    command = ["dockerd", "--host", SOCKET, "--data-root", str(HOME / "data"), "--pidfile", str(pidfile)]
    # What no service can ask for by itself holds for every container.
    command += ["--no-new-privileges", "--log-driver", "json-file"]
    command += ["--log-opt", "max-size=10m", "--log-opt", "max-file=3"]
    with LOG.open("ab") as output:
        return subprocess.Popen(
            command, cwd="/", stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        ).pid


def _join_swarm() -> None:
    state = run(docker(), "info", "--format", "{{.Swarm.LocalNodeState}}").strip()
    if state == "active":
        return
    # Of itself a manager listens on every address.
    init = ("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377")
    if running_pid() is None:
        say(f"engine: it is in no swarm ({state}), and it is not ours; next: docker {' '.join(init)}")
        return
    run(docker(), *init)
    say("engine: made a swarm of one")


def _started_at(pid: int) -> str | None:
    """Return a process's start in ticks since boot, None when it is gone or a zombie."""
    try:
        # The second field, the program's name in parentheses, may hold blanks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def _await(done: Callable[[], bool], limit_s: float, otherwise: str) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > deadline:
            raise FailedError(f"{otherwise} (waited {limit_s:g} s)", next=f"see {LOG}")
        time.sleep(0.2)
