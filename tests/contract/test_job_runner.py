"""What every runner of confined jobs does, asked of the fake and of real child processes; and what these are denied."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.adapters.jobs import process as process_module
from pipelines.adapters.jobs.process import ProcessJobs
from pipelines.errors import Cancelled, JobFailed, Undecided, UsageError
from pipelines.ports import JobBounds, JobRunner
from pipelines.settings.settings import ROOT
from tests.support.world.fakes import FakeJobs

PROGRAM = "tests.support.world.job_programs"
BOUNDS = JobBounds(wall_s=60, memory_mb=512)
SHORT = JobBounds(wall_s=3, memory_mb=512)
MIB = 1024 * 1024


@pytest.fixture
def jobs(tmp_path: Path) -> ProcessJobs:
    return ProcessJobs(ROOT, tmp_path / "jobs", program=PROGRAM)


@pytest.fixture(params=["fake", "process"])
def runner(request: pytest.FixtureRequest, tmp_path: Path) -> JobRunner:
    if request.param == "fake":
        return FakeJobs(tmp_path / "jobs", PROGRAM)
    return ProcessJobs(ROOT, tmp_path / "jobs", program=PROGRAM)


def ask(runner: JobRunner, task: str, bounds: JobBounds = BOUNDS, **options: Any) -> Any:
    return json.loads(runner.run(task.encode(), {}, bounds, **options))


def test_a_job_finds_its_files_by_their_names_and_nothing_is_left_of_it(runner: JobRunner, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("rows")

    answer = json.loads(runner.run(b"list", {"model/a": source, "b": source}, BOUNDS))

    assert answer == {"b": "rows", "model/a": "rows"}
    assert list((tmp_path / "jobs").iterdir()) == []
    assert runner.remove_left() == set()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", ""])
def test_no_file_is_laid_outside_of_a_jobs_directory(runner: JobRunner, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no place for a file"):
        runner.run(b"list", {name: Path(__file__)}, BOUNDS)


def test_who_asked_can_end_a_job(runner: JobRunner) -> None:
    def check() -> None:
        raise Cancelled("e-1 was cancelled by bob")

    begun = time.monotonic()
    with pytest.raises(Cancelled):
        ask(runner, "sleep", check=check)
    assert time.monotonic() - begun < BOUNDS.wall_s


def test_a_child_has_nothing_of_this_process_but_its_files(jobs: ProcessJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", "canary")
    found = ask(jobs, "look")

    assert "canary" not in json.dumps(found)
    assert {name for name in found["environ"] if "SLIPWAY" in name or "MLFLOW" in name} == set()
    assert found["leads_its_session"] and found["cwd_is_place"]
    assert found["gives_way_by"] > os.getpriority(os.PRIO_PROCESS, 0)
    # Where the kernel weighs sessions, "/autogroup-7 nice 5" is what counts against other sessions.
    assert found["autogroup"] in (None, "") or found["autogroup"].endswith(f"nice {found['gives_way_by']}")
    limits = found["limits"]
    assert limits["DATA"] == 512 * MIB
    assert limits["CPU"] <= BOUNDS.wall_s + 2
    assert (limits["CORE"], limits["NOFILE"], limits["FSIZE"]) == (0, 256, MIB)


def test_what_else_this_user_starts_takes_no_threads_from_a_job(jobs: ProcessJobs) -> None:
    limit = ask(jobs, "look")["limits"]["NPROC"]
    assert limit == -1 or limit > threads_of_this_user() + 64 + 500


def test_a_job_that_may_start_no_thread_decides_nothing(jobs: ProcessJobs) -> None:
    with pytest.raises(Undecided, match="could start no more threads") as undecided:
        ask(jobs, "thread")
    assert not isinstance(undecided.value, JobFailed)


def test_what_can_not_be_ended_keeps_nobody_waiting_for_ever(
    jobs: ProcessJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kill = psutil.Process.kill
    # As of a process that waits for a disk; and the warden, which has been stopped, can't do it either.
    monkeypatch.setattr(psutil.Process, "kill", lambda process: None)
    monkeypatch.setattr(process_module, "_END_S", 0.5)
    monkeypatch.setattr(process_module, "_LOST_S", 0.5)
    try:
        with pytest.raises(JobFailed, match="took longer than 3 s"):
            ask(jobs, "escape stop", SHORT)
        assert "a confined job can't be ended: processes" in caplog.text
    finally:
        for pid in left(tmp_path):
            kill(psutil.Process(pid))


def test_only_what_a_program_returns_is_its_answer(jobs: ProcessJobs) -> None:
    assert ask(jobs, "print") == "answered"


@pytest.mark.parametrize(
    ("task", "bounds", "told"),
    [
        ("sleep", SHORT, "took longer than 3 s"),
        ("spin", SHORT, "(took longer than|used a processor for more than) 3 s: begins to spin"),
        ("grow", BOUNDS, "needed more than 512 MB of memory"),
        ("fork 100", JobBounds(wall_s=60, memory_mb=4096), "started more than 64 processes"),
        ("talk 2000000", JobBounds(wall_s=60, memory_mb=512, answer_bytes=100_000), "answered more than 100,000 bytes"),
        ("crash", BOUNDS, "was ended by SIGABRT: the last words"),
        ("raise", BOUNDS, "ended with 1: (.|\n)*RuntimeError: what the program did not expect"),
        ("write", BOUNDS, "File too large"),
        ("fill 80 1000000", BOUNDS, "wrote more than 64 MiB, or 1,000 files"),
        ("fill 2000 0", BOUNDS, "wrote more than 64 MiB, or 1,000 files"),
    ],
)
def test_a_job_that_goes_beyond_its_bounds_is_ended_and_named(
    jobs: ProcessJobs, tmp_path: Path, task: str, bounds: JobBounds, told: str
) -> None:
    with pytest.raises(JobFailed, match=told) as failure:
        ask(jobs, task, bounds)
    assert "evaluation.job_s" in failure.value.next
    assert left(tmp_path) == []
    assert list((tmp_path / "jobs").iterdir()) == []


def test_what_leaves_a_jobs_session_ends_with_the_job(jobs: ProcessJobs, tmp_path: Path) -> None:
    assert ask(jobs, "escape") == "escaped"
    assert left(tmp_path) == []


@pytest.mark.parametrize("task", ["escape sleep", "escape stop"])
def test_what_leaves_a_jobs_session_ends_with_a_job_that_is_ended(jobs: ProcessJobs, tmp_path: Path, task: str) -> None:
    def check() -> None:
        # The warden, the job, and who has left.
        if len(left(tmp_path)) >= 3:
            raise Cancelled("e-1 was cancelled by bob")

    with pytest.raises(Cancelled):
        ask(jobs, task, check=check)
    assert left(tmp_path) == []


@pytest.fixture
def burrows(tmp_path: Path) -> Iterator[Path]:
    """The jobs' directory, of which nothing may be left: pytest itself can't remove what lies so deep."""
    yield tmp_path / "jobs"
    subprocess.run(["rm", "-rf", str(tmp_path / "jobs")], check=True)


def test_folders_however_deep_are_removed_and_nothing_that_they_point_at(
    jobs: ProcessJobs, burrows: Path, tmp_path: Path
) -> None:
    # As many as a job may make, and as one may have made before it was looked at.
    assert ask(jobs, "burrow 990") == "there"
    assert list(burrows.iterdir()) == []
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    job = burrows / "job-left"
    (job / "shut" / "in").mkdir(parents=True)
    (job / "shut").chmod(0)
    inside = os.open(job, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=inside)
        outside, inside = inside, os.open("d", os.O_RDONLY, dir_fd=inside)
        os.close(outside)
    os.symlink(tmp_path / "kept", "link", dir_fd=inside)
    os.close(inside)
    assert jobs.remove_left() == {"job-left"}
    assert list(burrows.iterdir()) == []
    assert (tmp_path / "kept" / "file").exists()


@pytest.mark.parametrize("place", ["", "secret"])
def test_what_a_job_puts_in_the_place_of_its_log_is_not_read(jobs: ProcessJobs, tmp_path: Path, place: str) -> None:
    (tmp_path / "secret").write_text("canary")
    with pytest.raises(JobFailed, match="ended with 3: the last words") as failure:
        ask(jobs, f"replace {tmp_path / place}" if place else "replace")
    assert "canary" not in failure.value.message


@pytest.mark.parametrize("task", ["sleep", "escape sleep", "freeze"])
def test_a_job_ends_with_who_started_it(tmp_path: Path, task: str) -> None:
    starter = os.fork()
    if starter == 0:
        try:
            ask(ProcessJobs(ROOT, tmp_path / "jobs", program=PROGRAM), task)
        finally:
            os._exit(1)
    try:
        await_that(lambda: len(left(tmp_path)) == len(task.split()) + 1)
        await_that(lambda: task != "freeze" or "stopped" in [psutil.Process(pid).status() for pid in left(tmp_path)])
    finally:
        os.kill(starter, 9)
        os.waitpid(starter, 0)
    await_that(lambda: left(tmp_path) == [])
    assert ProcessJobs(ROOT, tmp_path / "jobs").remove_left()
    assert list((tmp_path / "jobs").iterdir()) == []


def threads_of_this_user() -> int:
    count = 0
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            count += process.num_threads() if process.uids().real == os.getuid() else 0
    return count


def left(place: Path) -> list[int]:
    """Return the processes that work below a place."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(place)):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def await_that(holds: Any) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
