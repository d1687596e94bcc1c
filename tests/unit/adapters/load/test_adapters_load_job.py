"""What needs no engine: the way to a slot, and the archives and hashes of a run's files."""

import hashlib
import io
import json
import tarfile
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from pipelines.adapters.load.files import pack, read_run, unpack
from pipelines.adapters.load.job import LoadJob
from pipelines.adapters.load.networks import LoadFront, LoadNetworks
from pipelines.adapters.load.swarm import Job, JobState, LoadSwarm
from pipelines.adapters.load.tasks import Parts
from pipelines.adapters.swarm.tasks import Task
from pipelines.errors import Undecided
from pipelines.ports import LoadRun
from tests.support.world.stacks import FURTHER_KEY, further_model, stack

STACK = stack()


def archive(*entries: tuple[str, bytes], links: tuple[str, ...] = ()) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for name in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(entry)
    return packed.getvalue()


def leave(directory: Path, raw: bytes = b"raw", *, judged: bytes = b"raw") -> Path:
    """Leave what a run leaves that has judged the raw values `judged`, with `raw` in their place."""
    (directory / "look1-worker0.parquet").write_bytes(raw)
    digest = f"sha256:{hashlib.sha256(judged).hexdigest()}"
    body = {"verdict": "passed", "raw": [{"file": "look1-worker0.parquet", "sha256": digest}]}
    (directory / "result.json").write_text(json.dumps(body))
    (directory / "report.html").write_text("<html>")
    return directory


@pytest.mark.parametrize("url", ["http://slipway-staging-trial:8000", "http://slipway-edge:8200"])
def test_a_slot_is_found_by_its_own_url_and_by_that_of_its_front(url: str) -> None:
    assert LoadNetworks.of_stack(STACK).front(url) == LoadFront("slipway-load-staging", "http://slipway-edge:8200")


@pytest.mark.parametrize("url", [f"http://slipway-production-{FURTHER_KEY}-live:8000", "http://slipway-edge:8102"])
def test_a_slot_of_a_further_model_is_found_on_the_same_network_as_the_first_ones(url: str) -> None:
    two = LoadNetworks.of_stack(stack(environments={"production": further_model()["production"]}))
    assert two.front(url) == LoadFront("slipway-load-production", "http://slipway-edge:8102")
    assert two.front("http://slipway-production-live:8000").url == "http://slipway-edge:8100"


def task(number: int, state: str, exit_code: int = 0) -> Task:
    alive = state in ("preparing", "running")
    return Task(str(number), number, None, "image", 1, state, alive, alive, "", exit_code, None)


class SlowToPush(LoadSwarm):
    """A swarm that runs a job at once, takes a while to order its workers, and then some more to start them."""

    def __init__(self) -> None:
        self.prefix = "slipway"
        self._looks = 0

    def start(self, name: str, archive: bytes, *, network: str, workers: int) -> Job:
        return Job(Parts(name, "image", {}, network), "job")

    def add_workers(self, job: Job, workers: int) -> Job:
        time.sleep(1.2)
        return replace(job, workers_id="workers")

    def look(self, job: Job) -> JobState:
        self._looks += 1
        if not job.workers_id:
            return JobState(task(1, "running"), b"")
        if self._looks < 4:
            return JobState(task(1, "running"), b"", (task(1, "preparing"), task(2, "running")))
        return JobState(task(1, "failed", 9), b"")

    def remove(self, name: str | None = None) -> set[str]:
        return set()


def test_workers_have_a_time_of_their_own_to_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.adapters.load.job.POLL_S", 0.01)
    job = LoadJob(SlowToPush(), LoadNetworks.of_stack(STACK), start_s=1.0)
    plan = {"host": "http://slipway-edge:8200", "workers": 2, "warmup_s": 1, "duration_s": 10, "timeout_s": 1}

    with pytest.raises(Undecided, match="the load run ended with 9"):
        job.run(plan, [], tmp_path)


def test_a_url_that_no_load_network_leads_to_is_undecided() -> None:
    with pytest.raises(
        Undecided, match=r"no load network leads to http://10.0.0.1:8000, only to http://slipway-edge:8100"
    ):
        LoadNetworks.of_stack(STACK).front("http://10.0.0.1:8000")


def test_plan_and_rows_are_packed_for_the_user_of_the_image_whatever_their_size() -> None:
    rows = [{"text": "x" * 1000, "n": n} for n in range(2000)]

    with tarfile.open(fileobj=io.BytesIO(pack({"rate_per_s": 5}, rows, PurePosixPath("/out")))) as tar:
        contents = {entry.name: json.load(tar.extractfile(entry) or io.BytesIO()) for entry in tar}
        owners = {(entry.uid, entry.gid, entry.mode) for entry in tar}

    assert contents == {"plan.json": {"rate_per_s": 5, "rows_file": "/out/rows.json"}, "rows.json": rows}
    assert owners == {(10001, 10001, 0o444)}


def test_files_are_unpacked_by_their_last_names_and_links_are_left_out(tmp_path: Path) -> None:
    packed = archive(("result/result.json", b"{}"), ("result/../../outside", b"x"), links=("result/link",))
    parts = [packed[at : at + 7] for at in range(0, len(packed), 7)]

    unpack(parts, tmp_path / "in" / "out")

    assert {path.name for path in (tmp_path / "in" / "out").iterdir()} == {"result.json", "outside"}
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_archive_that_is_cut_off_is_undecided(tmp_path: Path) -> None:
    with pytest.raises(Undecided, match="arrived damaged"):
        unpack([archive(("result/result.json", b"x" * 5000))[:2000]], tmp_path)


def test_an_archive_without_end_is_undecided(tmp_path: Path) -> None:
    with pytest.raises(Undecided, match="left more than 10,000 bytes"):
        unpack(iter(lambda: b"x" * 1000, b""), tmp_path, limit_bytes=10_000)


def test_a_run_whose_raw_values_are_those_it_judged_is_read(tmp_path: Path) -> None:
    run = read_run(leave(tmp_path))

    assert (run.result["verdict"], run.report_html) == ("passed", b"<html>")


def test_a_run_without_raw_values_is_read(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"verdict": "inconclusive", "raw": []}')

    assert read_run(tmp_path) == LoadRun({"verdict": "inconclusive", "raw": []}, b"")


def test_raw_values_that_are_not_those_judged_are_undecided_with_both_hashes(tmp_path: Path) -> None:
    with pytest.raises(Undecided, match=r"look1-worker0.parquet: digest mismatch, expected sha256:\w+, got sha256:\w+"):
        read_run(leave(tmp_path, raw=b"another"))


def test_raw_values_that_are_missing_are_undecided(tmp_path: Path) -> None:
    (leave(tmp_path) / "look1-worker0.parquet").unlink()

    with pytest.raises(Undecided, match=r"look1-worker0.parquet of the load run is missing"):
        read_run(tmp_path)


def test_a_run_that_left_no_result_is_undecided(tmp_path: Path) -> None:
    with pytest.raises(Undecided, match="left no result"):
        read_run(tmp_path)
