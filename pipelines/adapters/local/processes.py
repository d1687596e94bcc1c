"""The processes of one home: started once, found again, ended with all that they started.

A process is ours only if its id and the mark of its birth, which no step of a clock moves, are in the home's record.
Where that has lost its content, processes are known by what they were started with.
One that is to take another's place is recorded beside it, and counts as soon as that one has left.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

import psutil

from pipelines.adapters.local.private_json import write_private
from pipelines.adapters.local.supervisor.identity import birth

# Longer than a supervisor takes to drain its replicas.
STOP_S = 30.0
SUCCESSOR = "successor of "
# In the environment of what is started: from which home, and as what.
_STARTED = "SLIPWAY_STARTED_AS"

Born = str | float | None


class Processes:
    """What was started from `home`, by name; each writes its own log into `logs`."""

    def __init__(self, home: Path, logs: Path) -> None:
        self._record = home / "run" / "processes.json"
        self._mark = f"{home}:"
        self._logs = logs
        # By name, the latest last.
        self._started: dict[str, list[subprocess.Popen[bytes]]] = {}

    def running(self) -> dict[str, psutil.Process]:
        """Return what runs; a successor whose predecessor has not left yet is named so."""
        alive = {name: process for name, known in self._recorded().items() if (process := _alive(*known))}
        return {_counting_as(name, alive): process for name, process in alive.items()}

    def take_in(self) -> None:
        """Record what was started from here and never recorded, as by one who was killed in between."""
        recorded = self._settled()
        if (found := self._found(recorded)) != recorded:
            write_private(self._record, found)

    def start(
        self, name: str, command: Sequence[str], *, cwd: Path, environ: Mapping[str, str], replaces: bool
    ) -> None:
        """Start a process; one that `replaces` another leaves that one on record until it has left."""
        self._logs.mkdir(parents=True, exist_ok=True)
        log = self.log(name)
        if log.exists():
            log.replace(log.with_suffix(".log.1"))
        # Appended to, so that it can be capped while its process writes.
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**environ, _STARTED: f"{self._mark}{name}"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            recorded = {known: list(found) for known, found in self._settled().items() if known != SUCCESSOR + name}
            recorded[SUCCESSOR + name if replaces else name] = [process.pid, birth(process.pid)]
            write_private(self._record, recorded)
        except BaseException:
            # Nobody would ever find it, as when the disk is full.
            kill([psutil.Process(process.pid)])
            process.wait()
            raise
        self._started.setdefault(name, []).append(process)

    def latest(self, name: str) -> int | None:
        """Return the id of the process that was started last by a name, None once that has ended."""
        if name in self._started:
            started = self._started[name][-1]
            return None if started.poll() is not None else started.pid
        process = self.running().get(name)
        return process.pid if process else None

    def exit_code(self, name: str) -> int | None:
        """Return how a process ended that was started here."""
        return self._started[name][-1].poll() if name in self._started else None

    def log(self, name: str) -> Path:
        """Return the file that a process writes to."""
        return self._logs / f"{name}.log"

    def last_lines(self, name: str, count: int = 8) -> str:
        """Return the last lines that a process wrote."""
        log = self.log(name)
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:]) if log.exists() else ""

    def forget(self) -> None:
        """Forget all of them, once they have ended."""
        for process in chain.from_iterable(self._started.values()):
            process.poll()
        self._record.unlink(missing_ok=True)

    def _settled(self) -> dict[str, tuple[int, Born]]:
        """Return the record, in which successors have the names of those that have left."""
        recorded = self._recorded()
        alive = {name: process for name, known in recorded.items() if (process := _alive(*known))}
        return {_counting_as(name, alive): recorded[name] for name in alive}

    def _recorded(self) -> dict[str, tuple[int, Born]]:
        if not self._record.exists():
            return {}
        try:
            return {name: (pid, born) for name, (pid, born) in json.loads(self._record.read_text()).items()}
        except (ValueError, TypeError, AttributeError):
            return self._found({})

    def left(self) -> Iterator[tuple[str, psutil.Process]]:
        """Yield all that was started from here and still runs, by whatever has ended since, and as part of what."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                mark = process.environ().get(_STARTED, "")
                if mark.startswith(self._mark) and process.status() != psutil.STATUS_ZOMBIE:
                    yield mark.removeprefix(self._mark), process

    def orphans(self) -> Iterator[tuple[str, psutil.Process]]:
        """Yield what runs on without the process that was started from here, such as a killed server's worker."""
        for name, process in self.left():
            with suppress(ProcessLookupError):
                leader = os.getsid(process.pid)
                if leader != process.pid and not _runs(leader):
                    yield name, process

    def _found(self, recorded: Mapping[str, tuple[int, Born]]) -> dict[str, tuple[int, Born]]:
        """Return the record with what was started from here and is not in it; their children are not theirs."""
        left = list(self.left())
        ours, known = {process.pid for _, process in left}, {pid for pid, _ in recorded.values()}
        found = dict(recorded)
        for name, process in left:
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                # A load run of the executor's leads a session too.
                leads = os.getsid(process.pid) == process.pid and process.ppid() not in ours
                if leads and process.pid not in known:
                    # The later one of two is to take the place of the other.
                    found[SUCCESSOR + name if name in found else name] = (process.pid, birth(process.pid))
        return found


def end(processes: Iterable[psutil.Process]) -> None:
    """Ask processes to end and, after STOP_S, end them and their groups."""
    asked = list(processes)
    for process in asked:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(asked, timeout=STOP_S)
    kill(left)


def kill(processes: Iterable[psutil.Process]) -> None:
    """End processes at once, with the groups that they lead."""
    left = list(processes)
    for process in left:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
    psutil.wait_procs(left, timeout=STOP_S)


def abandon(supervisors: Iterable[psutil.Process]) -> None:
    """End supervisors that can't pass their sockets on, and not their replicas: the successor takes those from them."""
    left = list(supervisors)
    for supervisor in left:
        with suppress(psutil.NoSuchProcess):
            supervisor.kill()
    psutil.wait_procs(left, timeout=STOP_S)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _alive(pid: int, born: Born) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        # An earlier Slipway recorded the time of day.
        same = abs(process.create_time() - born) < 1 if isinstance(born, float) else birth(pid) == born
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _counting_as(name: str, alive: Mapping[str, psutil.Process]) -> str:
    own = name.removeprefix(SUCCESSOR)
    return name if own in alive else own
