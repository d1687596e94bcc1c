"""A replica that no record names is found by its mark, and ended: by the supervisor that runs, and by the next one."""

import asyncio
import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.adapters.local.supervisor import control
from pipelines.adapters.local.supervisor.control import Supervisor
from pipelines.adapters.local.supervisor.home import Record, SupervisorHome
from pipelines.adapters.local.supervisor.identity import MARK, birth, group_lives, mark, marked, signal_group
from pipelines.adapters.local.supervisor.slot import Rules
from pipelines.domain.release import Endpoint, Environment
from tests.support.world.supervisors import free_port

ENDPOINT = Endpoint("toy-model", Environment.STAGING)
RULES = Rules(replicas=1, start_deadline_s=30, silence_s=30)
Start = Callable[[str], "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process with a child, both with a mark, as gunicorn's master and worker have it."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(mark: str) -> "subprocess.Popen[bytes]":
        command = ["sh", "-c", "sleep 60 & trap 'kill $!' TERM; wait"]
        process = subprocess.Popen(command, env={**os.environ, MARK: mark}, start_new_session=True)
        # Who ends it is not its parent, and waits for as long as there is a zombie.
        threading.Thread(target=process.wait, daemon=True).start()
        started.append(process)
        return process

    yield begin
    for process in started:
        signal_group(process.pid, signal.SIGKILL)
        process.wait()


async def until(good: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not good():
            await asyncio.sleep(0.05)


def test_replicas_are_known_by_their_mark_and_by_whose_they_are(tmp_path: Path, start: Start) -> None:
    own, other = tmp_path / "run" / "supervisor-a.json", tmp_path / "run" / "supervisor-b.json"
    process = start(mark(own, "live-1", tmp_path / "a.sock"))
    for stranger in (mark(other, "live-1", tmp_path / "b.sock"), "", "5", "[]", "no mark"):
        start(stranger)
    asyncio.run(until(lambda: any(replica.worker for replica in marked(own))))
    (replica,) = marked(own)
    assert (replica.name, replica.pid, replica.socket) == ("live-1", process.pid, str(tmp_path / "a.sock"))
    assert replica.born == birth(process.pid) and replica.worker_born == birth(replica.worker or 0)
    assert {found.socket for found in marked(tmp_path / "run")} == {
        str(tmp_path / name) for name in ("a.sock", "b.sock")
    }


def test_a_supervisor_ends_now_and_then_what_it_does_not_know_and_nothing_of_its_own(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_LOOK_S", 0.1)
    home = SupervisorHome(tmp_path, ENDPOINT)

    async def run() -> None:
        end = asyncio.Event()
        serving = asyncio.create_task(Supervisor(home, free_port(), RULES).run(end))
        await until(lambda: bool(marked(home.record_path)))
        own = {replica.pid for replica in marked(home.record_path)}
        stray = start(mark(home.record_path, "live-1", tmp_path / "stray.sock"))
        await until(lambda: not group_lives(stray.pid))
        assert {replica.pid for replica in marked(home.record_path)} == own
        end.set()
        await serving

    asyncio.run(run())
    assert marked(home.record_path) == []


def test_a_record_that_could_not_be_written_is_written_as_soon_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_AGAIN_S", 0.1)
    home = SupervisorHome(tmp_path, ENDPOINT)
    save, room, heard = home.save, asyncio.Event(), asyncio.Event()

    def full(record: Record) -> None:
        # The last change for a while is that the worker answers.
        if any(process.worker for process in record.processes):
            heard.set()
        if not room.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        save(record)

    monkeypatch.setattr(home, "save", full)

    async def run() -> None:
        end = asyncio.Event()
        serving = asyncio.create_task(Supervisor(home, free_port(), RULES).run(end))
        await heard.wait()
        assert not home.record_path.exists()
        room.set()
        await until(home.record_path.exists)
        end.set()
        await serving

    asyncio.run(run())
