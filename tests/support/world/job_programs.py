"""What confined jobs of tests do: the task is a word, and its letter to whoever runs it a JSON answer."""

import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any


def carry_out(task: bytes, place: Path) -> bytes:
    """Do what the task says."""
    word, _, rest = task.decode().partition(" ")
    answer: Any = globals()[f"do_{word}"](place, rest)
    return json.dumps(answer).encode()


def do_list(place: Path, rest: str) -> dict[str, str]:
    return {
        str(path.relative_to(place)): path.read_text()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name not in ("task.json", "job.log")
    }


def do_look(place: Path, rest: str) -> dict[str, Any]:
    """Tell what this process has been left with."""
    kinds = ("CPU", "DATA", "FSIZE", "NOFILE", "CORE", "NPROC")
    return {
        "environ": dict(os.environ),
        "limits": {kind: resource.getrlimit(getattr(resource, f"RLIMIT_{kind}"))[1] for kind in kinds},
        "uid": os.getuid(),
        "gives_way_by": os.getpriority(os.PRIO_PROCESS, 0),
        "autogroup": _autogroup(),
        "leads_its_session": os.getsid(0) == os.getpid(),
        "cwd_is_place": Path.cwd() == place,
    }


def _autogroup() -> str | None:
    file = Path("/proc/self/autogroup")
    return file.read_text().strip() if file.exists() else None


def do_reach(place: Path, rest: str) -> str:
    """Connect to somebody."""
    host, port = rest.split(":")
    with socket.create_connection((host, int(port)), timeout=5):
        return "reached"


def do_write(place: Path, rest: str) -> str:
    (Path(rest or place) / "made").write_bytes(bytes(2 * 1024 * 1024))
    return "written"


def do_fill(place: Path, rest: str) -> None:
    """Write files of some bytes, so many of them and no more: this machine is not ours alone."""
    count, size = map(int, rest.split())
    below = place / "below"
    below.mkdir()
    for number in range(count):
        (below / str(number)).write_bytes(bytes(size))
    time.sleep(600)


def do_burrow(place: Path, rest: str) -> str:
    """Put so many folders into one another."""
    for _ in range(int(rest)):
        os.mkdir("d")
        os.chdir("d")
    return "there"


def do_print(place: Path, rest: str) -> str:
    sys.stdout.write("no part of the answer")
    os.write(1, b"nor this")
    return "answered"


def do_spin(place: Path, rest: str) -> None:
    sys.stderr.write("begins to spin\n")
    sys.stderr.flush()
    while True:
        sum(range(1_000_000))


def do_sleep(place: Path, rest: str) -> None:
    time.sleep(600)


def do_grow(place: Path, rest: str) -> None:
    kept = []
    while True:
        kept.append(bytes(16 * 1024 * 1024))


def do_fork(place: Path, rest: str) -> None:
    """Fork like a bomb, but no more than so many times: this machine is not ours alone."""
    for _ in range(int(rest)):
        if os.fork() == 0:
            time.sleep(600)
    time.sleep(600)


def do_thread(place: Path, rest: str) -> None:
    """Start a thread where this user has as many as it may have; root may have any number."""
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    if os.getuid() == 0:
        os.setuid(65_534)
    threading.Thread(target=time.sleep, args=(1,)).start()


def do_escape(place: Path, rest: str) -> str:
    """Leave a process in a session of its own, whose parent has gone; then do something else."""
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        time.sleep(600)
    os.wait()
    return str(globals()[f"do_{rest}"](place, "") if rest else "escaped")


def do_replace(place: Path, rest: str) -> None:
    """Put something else in the place of the log, then fail."""
    os.write(2, b"the last words\n")
    (place / "job.log").unlink()
    if rest:
        (place / "job.log").symlink_to(rest)
    else:
        os.mkfifo(place / "job.log")
    os._exit(3)


def do_freeze(place: Path, rest: str) -> None:
    """Stop this process."""
    os.kill(os.getpid(), signal.SIGSTOP)


def do_stop(place: Path, rest: str) -> None:
    """Stop whoever started this process, then sleep."""
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(600)


def do_talk(place: Path, rest: str) -> str:
    return "x" * int(rest)


def do_crash(place: Path, rest: str) -> None:
    sys.stderr.write("the last words\n")
    sys.stderr.flush()
    os.abort()


def do_raise(place: Path, rest: str) -> None:
    raise RuntimeError("what the program did not expect")
