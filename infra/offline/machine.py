"""What the parts ask of this machine: programs, packages, places to write to, and a word on what goes on."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ.get("SLIPWAY_TOOLS") or ROOT / ".tools").resolve()
TAIL_LINES = 15
# A machine that has just started, or updates itself, holds Debian's locks for some minutes.
LOCK_S = 600.0
LOCK_POLL_S = 2.0
_LOCKED = ("Could not get lock", "lock was locked by another process")


class RefusedError(Exception):
    """A part can't be made here: `str()` is why, `next` what to do about it."""

    def __init__(self, message: str, *, next: str) -> None:
        super().__init__(message)
        self.next = next


class FailedError(RefusedError):
    """A program that was run ended badly; what was made before it stays."""


def say(line: str) -> None:
    """Tell a person, on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def run(*command: str, environ: Mapping[str, str] = os.environ, cwd: Path = ROOT) -> str:
    """Run a program to its end and return its output; raise FailedError with the last lines it wrote."""
    done = subprocess.run(command, cwd=cwd, env=dict(environ), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-TAIL_LINES:])
        raise FailedError(f"{' '.join(command[:3])} ended with {done.returncode}:\n{tail}", next="fix what it names")
    return done.stdout


def works(*command: str, environ: Mapping[str, str] = os.environ, cwd: Path = ROOT, limit_s: float = 120.0) -> bool:
    """Whether a program ends well within `limit_s`; what it writes is dropped."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def docker() -> str:
    """Return the client to use: SLIPWAY_DOCKER, else the one that came with the engine, else any on the path.

    A newer client that somebody put on the path may lack the builder that the engine's own has.
    """
    own = "/usr/bin/docker"
    return os.environ.get("SLIPWAY_DOCKER") or (own if Path(own).exists() else shutil.which("docker") or own)


def install(*packages: str, if_known: tuple[str, ...] = ()) -> None:
    """Install Debian packages that are not there, `if_known` where this system's lists have them.

    Raises RefusedError where that is impossible.
    """
    missing = [name for name in packages if not _installed(name)]
    if not missing:
        return
    need_root(f"installing {', '.join(missing)}")
    if not shutil.which("apt-get"):
        raise RefusedError(f"{', '.join(missing)} missing, and no apt-get here", next="install them, then run it again")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    run_unlocked("apt-get", "update", "--quiet", environ=environ)
    missing += [name for name in if_known if not _installed(name) and works("apt-cache", "show", name)]
    say(f"installing {', '.join(missing)}")
    run_unlocked("apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *missing, environ=environ)


def run_unlocked(*command: str, environ: Mapping[str, str]) -> None:
    """Run one of Debian's package programs, waiting while another holds its locks; raise FailedError."""
    deadline, told = time.monotonic() + LOCK_S, False
    while True:
        try:
            run(*command, environ=environ)
            return
        except FailedError as error:
            holder = [line for line in str(error).splitlines() if any(words in line for words in _LOCKED)]
            if not holder or time.monotonic() > deadline:
                raise
            if not told:
                say(f"{holder[0]}\nwaiting up to {LOCK_S:g} s for it")
            told = True
        time.sleep(LOCK_POLL_S)


def _installed(package: str) -> bool:
    if not shutil.which("dpkg-query"):
        return False
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status}", package]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout == "installed"


def need_root(what: str) -> None:
    """Raise RefusedError unless this is root."""
    if os.geteuid() != 0:
        raise RefusedError(f"{what} takes root", next='run it as root: "sudo make offline"')
