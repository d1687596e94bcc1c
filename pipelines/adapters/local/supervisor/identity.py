"""Tells a process from a later one with the same pid, finds replicas, and ends groups without hitting strangers."""

import asyncio
import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil

from pipelines.adapters.local.supervisor.home import ProcessRecord, recorded_replicas
from pipelines.errors import UsageError

POLL_S = 0.02
# Covers gunicorn's graceful_timeout, after which its master has killed the worker itself.
GRACE_S = 15.0
_REAP_S = 2.0
# In the environment of a replica: the record of its supervisor, its name and its private socket.
MARK = "SLIPWAY_REPLICA"


def birth(pid: int) -> str | None:
    """Return a mark of when a process was born, across reboots where /proc exists; None when it is gone."""
    try:
        # The command name may hold spaces and parentheses: fields are counted after its end.
        ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{ticks}"
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    shown = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=5
    )
    return shown.stdout.strip() or None


def signal_group(pgid: int, number: signal.Signals) -> bool:
    """Signal a process group; return whether it had anybody in it."""
    try:
        os.killpg(pgid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # macOS answers so for a group that has only zombies left.
        return False
    return True


def group_lives(pgid: int) -> bool:
    """Whether any process of the group is left."""
    try:
        os.killpg(pgid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


async def group_ends(pgid: int, within_s: float) -> bool:
    """Wait until nobody of the group is left; return False when the time is over first."""
    deadline = time.monotonic() + within_s
    while group_lives(pgid):
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


async def kill_group(pgid: int) -> None:
    """End a group that did not drain."""
    signal_group(pgid, signal.SIGKILL)
    await group_ends(pgid, _REAP_S)


def mark(record: Path, name: str, private: Path) -> str:
    """Return by what a replica is known as that of the supervisor with this record, whatever the record says."""
    return json.dumps([str(record), name, str(private)])


def marked(owner: Path) -> list[ProcessRecord]:
    """Return every replica of the supervisor that has a record, or of all with records in a folder."""
    found: dict[int, ProcessRecord] = {}
    for process in psutil.process_iter():
        # What is no mark is somebody else's.
        with suppress(psutil.Error, ProcessLookupError, ValueError, TypeError):
            record, name, private = json.loads(process.environ().get(MARK, ""))
            if owner in (Path(record), Path(record).parent) and process.status() != psutil.STATUS_ZOMBIE:
                group = os.getpgid(process.pid)
                known = found.get(group) or ProcessRecord(name, group, birth(group), None, None, private)
                if process.pid != group:
                    known = replace(known, worker=process.pid, worker_born=birth(process.pid))
                found[group] = known
    return list(found.values())


def lives(orphan: ProcessRecord) -> bool:
    """Whether anything of a replica of a former supervisor is left: either of its processes serves."""
    return _is_still(orphan.pid, orphan.born) or _is_still(orphan.worker, orphan.worker_born)


def _is_still(pid: int | None, born: str | None) -> bool:
    return pid is not None and born is not None and birth(pid) == born


def left_replicas(folder: Path) -> list[ProcessRecord]:
    """Return every replica of a folder's supervisors: by its mark, or by their records if an earlier Slipway's."""
    found = {replica.pid: replica for replica in marked(folder)}
    for record in (*folder.glob("supervisor-*.json"), *folder.glob("keeper-*.json")):
        # One that has lost its content names nothing, and keeps nobody from ending the others.
        with suppress(UsageError):
            found |= {
                named.pid: named for named in recorded_replicas(record) if named.pid not in found and lives(named)
            }
    return list(found.values())


async def end_orphan(orphan: ProcessRecord) -> bool:
    """End a replica of a former supervisor, if it still is that process; return whether it was."""
    master_lives = _is_still(orphan.pid, orphan.born)
    worker_lives = _is_still(orphan.worker, orphan.worker_born)
    if master_lives:
        # It may end by itself between a look and the signal.
        with suppress(ProcessLookupError):
            os.kill(orphan.pid, signal.SIGTERM)
    elif worker_lives:
        signal_group(orphan.pid, signal.SIGTERM)
    if (master_lives or worker_lives) and not await group_ends(orphan.pid, GRACE_S):
        await kill_group(orphan.pid)
    Path(orphan.socket).unlink(missing_ok=True)
    return master_lives or worker_lives
