"""The load run as its caller sees it: a real Locust process against a real server of known latency."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from loadtests.samples import read_look
from tests.support.servers.servers import free_port
from tests.support.world.bundles import make_bundle, valid_row
from tests.support.world.load_plans import LIMIT_MS, write_plan
from tests.support.world.replicas import ReplicaProcess, listening, release
from tests.support.world.verbs import run_module

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "tests" / "support" / "servers" / "latency_server.py"
RUN_TIMEOUT_S = 200

pytestmark = pytest.mark.timeout(240)


@contextmanager
def serving(**latency_model: Any) -> Iterator[tuple[str, int]]:
    """Serve by a law of latency in a process of its own; yield URL and pid."""
    command = [sys.executable, str(SERVER), json.dumps(latency_model)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            yield f"http://127.0.0.1:{int(process.stdout.readline())}", process.pid
        finally:
            process.kill()


def run(directory: Path, host: str, **changes: Any) -> tuple[int, dict[str, Any], str]:
    """Run a plan; return the exit code, the result (none after a refusal) and stderr."""
    words = ["--plan", str(write_plan(directory, host, **changes)), "--out", str(directory / "out")]
    done = run_module("loadtests.run", words, cwd=ROOT, environ=os.environ, timeout_s=RUN_TIMEOUT_S)
    path = directory / "out" / "result.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    sys.stdout.write(done.stdout + done.stderr)
    return done.returncode, result, done.stderr


def check_of(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(check for check in result["checks"] if check["name"] == name)


def test_a_fast_server_passes_and_leaves_its_evidence(tmp_path: Path) -> None:
    with serving(delay_ms=2) as (host, _):
        code, result, progress = run(tmp_path, host, workers=2)
    assert (code, result["verdict"]) == (0, "passed")
    assert result["served_versions"] == {"6": result["n"]}
    assert 850 < result["n"] < 1150
    assert result["looks"] == 1
    assert {raw["file"] for raw in result["raw"]} >= {"look1-worker0.parquet", "look1-worker1.parquet"}
    for raw in result["raw"]:
        content = (tmp_path / "out" / raw["file"]).read_bytes()
        assert raw["sha256"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    # Warm-up is in the raw files and not in the count.
    assert sum(pq.read_table(tmp_path / "out" / raw["file"]).num_rows for raw in result["raw"]) > result["n"]
    assert "look 1: " in progress
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<svg") == 3
    assert "http://www" not in page
    assert "<script" not in page


def test_an_undecided_first_look_is_extended_once(tmp_path: Path) -> None:
    limits = [{"quantile": 0.95, "limit_ms": LIMIT_MS, "judged": True}]
    with serving(delay_ms=2, slow_share=0.05, slow_ms=2 * LIMIT_MS) as (host, _):
        code, result, _ = run(tmp_path, host, limits=limits, extension=True, rate_per_s=60)
    assert result["looks"] == 2
    assert result["alpha"] == 0.025
    assert code in (3, 4)
    assert "second of two looks" in check_of(result, "p95")["message"]


@contextmanager
def well_into_the_look(out: Path, act: Callable[[], None]) -> Iterator[None]:
    """Act after 4 s of the first look of the run in the block, if it comes so far."""
    begun, over = out / "look1-worker0.progress", threading.Event()

    def wait_and_act() -> None:
        while not begun.exists() and not over.wait(0.05):
            pass
        if not over.wait(4):
            act()

    actor = threading.Thread(target=wait_and_act)
    actor.start()
    try:
        yield
    finally:
        over.set()
        actor.join()


def pause(pid: int, length_s: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    time.sleep(length_s)
    os.kill(pid, signal.SIGCONT)


def test_a_frozen_server_fails_by_the_stall_rule(tmp_path: Path) -> None:
    with serving(delay_ms=2) as (host, pid), well_into_the_look(tmp_path / "out", lambda: pause(pid, 3)):
        code, result, _ = run(tmp_path, host)
    assert (code, result["verdict"]) == (3, "failed")
    stall = check_of(result, "stall")
    assert stall["message"].startswith("FAIL: stall=")
    assert stall["observed"] == pytest.approx(3, abs=1)


def test_a_look_that_the_machine_disturbed_is_measured_again(tmp_path: Path) -> None:
    def disturb() -> None:
        raw = f"--raw-file={(tmp_path / 'out' / 'look1-worker0.parquet').resolve()}"
        (generator,) = [child for child in psutil.Process().children(True) if raw in child.cmdline()]
        pause(generator.pid, 2)

    with serving(delay_ms=2) as (host, _), well_into_the_look(tmp_path / "out", disturb):
        code, result, progress = run(tmp_path, host)
    assert (code, result["verdict"], result["looks"]) == (0, "passed", 1)
    assert "measuring it again" in progress
    repeats = check_of(result, "repeats")
    assert repeats["message"].startswith("PASS repeats: measured again look 1 (")
    assert not repeats["judged"]
    # What was measured in vain stays as evidence and counts for nothing.
    assert [raw["file"] for raw in result["raw"]] == ["look1-worker0.parquet", "look1try2-worker0.parquet"]
    assert result["n"] == len(read_look([tmp_path / "out" / "look1try2-worker0.parquet"]).latency_ms)
    assert "measured again look 1" in (tmp_path / "out" / "report.html").read_text()


def test_answers_that_can_not_even_be_read_are_errors_and_none_is_lost(tmp_path: Path) -> None:
    with serving(nested_share=0.05) as (url, _):
        code, result, _ = run(tmp_path, url)
    assert code == 3
    assert check_of(result, "errors")["verdict"] == "failed"
    look = read_look(sorted((tmp_path / "out").glob("look1-*.parquet")))
    assert set(look.errors) == {"body is not JSON"}
    assert look.window.planned == len(look.latency_ms) == result["n"]


def test_another_version_is_inconclusive(tmp_path: Path) -> None:
    with serving(version="5") as (host, _):
        code, result, _ = run(tmp_path, host)
    assert (code, result["verdict"]) == (4, "inconclusive")
    assert 'the target serves "5", the plan expects "6"' in check_of(result, "versions")["message"]


def test_what_a_target_calls_itself_is_quoted_and_cut(tmp_path: Path) -> None:
    with serving(version="5\x1b[2K\nPASS" + "!" * 999) as (host, _):
        code, result, _ = run(tmp_path, host)
    assert (code, result["verdict"]) == (4, "inconclusive")
    message = check_of(result, "versions")["message"]
    assert 'the target serves "5\\u001b[2K\\nPASS!!!' in message
    assert len(message) < 120


def test_a_slow_run_is_controlled_for_longer(tmp_path: Path) -> None:
    limits = [{"quantile": 0.95, "limit_ms": LIMIT_MS, "judged": True}]
    with serving(delay_ms=2) as (host, _):
        code, _, progress = run(tmp_path, host, limits=limits, rate_per_s=6, max_error_rate=0.05)
    assert "control: 6 req/s for 3.33333 s after 1 s of warm-up" in progress
    # The arrivals of a Poisson process may be a few less than planned, and then prove too little.
    assert code in (0, 4)


def test_a_saturated_generator_is_inconclusive(tmp_path: Path) -> None:
    with serving(delay_ms=0) as (host, _):
        code, result, _ = run(tmp_path, host, rate_per_s=12_000)
    assert (code, result["verdict"]) == (4, "inconclusive")


def test_a_machine_that_is_never_quiet_enough_is_given_up(tmp_path: Path) -> None:
    # No machine measures an empty endpoint within a fifth of this.
    limits = [{"quantile": 0.95, "limit_ms": 0.2, "judged": True}]
    with serving() as (host, _):
        code, result, progress = run(tmp_path, host, limits=limits)
    assert (code, result["verdict"]) == (4, "inconclusive")
    assert [check["name"] for check in result["checks"]] == ["control"]
    assert progress.count("INCONCLUSIVE: control: p99 of an empty endpoint") == 3
    assert "look 1" not in progress


def test_a_target_that_is_down_is_an_error(tmp_path: Path) -> None:
    with serving() as (host, _):
        pass
    code, result, _ = run(tmp_path, host)
    assert (code, result["verdict"]) == (4, "error")
    assert "does not answer" in check_of(result, "load")["message"]


def test_locust_runs_the_load_by_hand_without_a_plan(tmp_path: Path) -> None:
    write_plan(tmp_path, "http://127.0.0.1:1")
    with serving(delay_ms=2) as (host, _):
        command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--json"]
        command += ["--host", host, "--rows-file", str(tmp_path / "rows.json"), "--rate", "50", "-u", "2"]
        command += ["--arrivals", "fixed", "--seed", "3", "-r", "2", "-t", "4s", "--stop-timeout", "2"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads(done.stdout)
    assert (entry["name"], entry["method"], entry["num_failures"]) == ("/predict", "POST", 0)
    lasted_s = entry["last_request_timestamp"] - entry["start_time"]
    assert entry["num_requests"] / lasted_s == pytest.approx(100, rel=0.25)


def locust(directory: Path, host: str, *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run Locust by hand on two rows; return its exit code and its statistics by name."""
    write_plan(directory, host)
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--json", "--host", host]
    command += ["--rows-file", str(directory / "rows.json"), "--stop-timeout", "2", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    sys.stdout.write(done.stderr)
    # Each worker prints a list as well: of nothing, for its statistics are the master's.
    entries = [entry for part in re.findall(r"^\[\]|^\[.*?^\]", done.stdout, re.M | re.S) for entry in json.loads(part)]
    return done.returncode, {entry["name"]: entry for entry in entries}


def test_locust_shows_each_persona_as_a_line_of_its_own_over_its_workers(tmp_path: Path) -> None:
    words = ["--processes", "2", "-u", "2", "-r", "2", "-t", "6s", "--rate", "50", "--shape", "ramp", "--duration", "5"]
    words += ["--mix", "single=8,batch=1,mistaken=1", "--expected-version", "6"]
    words += ["--raw-file", str(tmp_path / "raw.parquet")]
    with serving(delay_ms=2) as (host, _):
        code, found = locust(tmp_path, host, *words)
    assert code == 0
    assert set(found) == {"/predict", "/predict/batch", "/predict (mistakes)"}
    assert [entry["num_failures"] for entry in found.values()] == [0, 0, 0]
    assert found["/predict"]["num_requests"] > 4 * found["/predict (mistakes)"]["num_requests"] > 0
    # Each of the two writes its own: no request is counted twice or not at all.
    tables = [pq.read_table(tmp_path / f"raw-worker{index}.parquet") for index in range(2)]
    counts = Counter(name for table in tables for name in table["persona"].to_pylist())
    assert counts["single"] == found["/predict"]["num_requests"]
    assert counts["batch"] == found["/predict/batch"]["num_requests"]


def test_locust_counts_another_version_and_answered_mistakes_as_failures(tmp_path: Path) -> None:
    with serving(version="5") as (host, _):
        code, found = locust(tmp_path, host, "-t", "2s", "--rate", "50", "--expected-version", "6")
    assert code == 1
    assert found["/predict"]["num_failures"] == found["/predict"]["num_requests"] > 0


def test_what_is_typed_into_the_web_ui_reaches_the_workers(tmp_path: Path) -> None:
    rows = write_plan(tmp_path, "http://127.0.0.1:1").with_name("rows.json")
    web, port = free_port(), str(free_port())
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--rows-file", str(rows)]
    master = ["--master", "--master-bind-port", port, "--web-host", "127.0.0.1", "--web-port", str(web)]
    with serving(delay_ms=2) as (host, _), ExitStack() as stack:
        for words in ([*master, "--host", host, "--rate", "5"], ["--worker", "--master-port", port]):
            stack.callback(end, subprocess.Popen([*command, *words], cwd=ROOT, stderr=subprocess.DEVNULL))
        statistics_of(web, until=lambda found: found["workers"])
        typed = {"user_count": 1, "spawn_rate": 1, "host": host, "rate": 50.0, "mix": "single=8,mistaken=2"}
        ask(web, "swarm", urlencode(typed).encode())
        found = statistics_of(web, until=lambda found: found["total_rps"] > 30)
    counted = {entry["name"]: (entry["num_requests"], entry["num_failures"]) for entry in found["stats"]}
    assert counted["/predict"][0] > counted["/predict (mistakes)"][0] > 0
    assert counted["Aggregated"][1] == 0


def ask(port: int, path: str, body: bytes | None = None) -> dict[str, Any]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/{path}", body, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def statistics_of(port: int, *, until: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Ask the web UI until its statistics are as wanted."""
    deadline, last = time.monotonic() + 60, "nothing"
    while time.monotonic() < deadline:
        try:
            found = ask(port, "stats/requests")
        except OSError as error:
            last = repr(error)
        else:
            if until(found):
                return found
            last = json.dumps(found)
        time.sleep(0.2)
    raise AssertionError(f"the web UI shows {last}")


def end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait(20)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mix", "robot=1"], "error: mix: 'robot' is not single, batch or mistaken"),
        (["--shape", "ramp"], "error: a ramp needs --duration"),
        (["--rows-file", "nowhere.json"], "error: rows_file nowhere.json can't be read"),
    ],
)
def test_locust_refuses_a_load_that_it_can_not_send(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    code, _ = locust(tmp_path, "http://127.0.0.1:1", "-t", "2s", *words)
    assert code == 1
    assert message in capsys.readouterr().out


def test_a_mix_is_judged_by_route_and_mistakes_are_right_to_be_refused(tmp_path: Path) -> None:
    with serving(delay_ms=2) as (host, _):
        mix = {"single": 0.7, "batch": 0.2, "mistaken": 0.1}
        code, result, _ = run(tmp_path, host, mix=mix, shape={"kind": "step"}, rate_per_s=150)
    assert (code, result["verdict"]) == (0, "passed")
    assert check_of(result, "errors")["observed"] == 0
    assert sum(result["served_versions"].values()) < result["n"]
    judged = int(re.search(r"of (\d+) slow", check_of(result, "p95")["message"])[1])  # type: ignore[index]
    assert judged == pytest.approx(0.7 * result["n"], rel=0.15)


def test_a_route_of_batches_is_judged_by_its_own_limits_and_the_first_request_by_another(tmp_path: Path) -> None:
    with serving(delay_ms=20) as (host, _):
        code, result, _ = run(tmp_path, host, path="/predict/batch", first_request_ms=9000)
    assert (code, result["verdict"]) == (0, "passed")
    assert check_of(result, "first_request")["observed"] > 20
    raw = pq.read_table(tmp_path / "out" / "look1-worker0.parquet")
    assert set(raw["route"].to_pylist()) == {"/predict/batch"}


def test_the_real_service_is_right_to_every_persona(tmp_path: Path) -> None:
    path, digest = make_bundle(tmp_path / "bundles")
    rows = tmp_path / "toy-rows.json"
    rows.write_text(json.dumps([valid_row() for _ in range(30)]))
    with listening() as shared, ReplicaProcess(tmp_path, release(path, digest, version="6"), shared) as replica:
        replica.until_alive()
        code, result, _ = run(tmp_path, replica.url, rows_file=str(rows), mix={"single": 5, "batch": 2, "mistaken": 3})
    assert check_of(result, "errors")["message"].startswith("PASS errors <= 1.0000%: 0 of ")
    assert (code, result["verdict"]) == (0, "passed")
    raw = pq.read_table(tmp_path / "out" / "look1-worker0.parquet")
    seen = set(zip(raw["persona"].to_pylist(), raw["status"].to_pylist(), strict=True))
    assert seen == {("single", 200), ("batch", 200), ("mistaken", 400), ("mistaken", 415), ("mistaken", 422)}


def test_candidate_and_champion_are_measured_in_turn(tmp_path: Path) -> None:
    with serving(delay_ms=60, version="6") as (host, _), serving(delay_ms=2, version="5") as (other, _):
        comparison = {"host": other, "expected_version": "5", "blocks": 10, "block_s": 1, "warmup_s": 0.2}
        comparison |= {"margin": 1.1, "tolerance_ms": 20.0}
        code, result, progress = run(tmp_path, host, comparison=comparison)
    found = check_of(result, "p99_ratio")
    assert (code, found["verdict"]) in ((3, "failed"), (4, "inconclusive"))
    assert [block["block"] for block in result["blocks"]] == list(range(1, 11))
    assert np.median([block["ratio"] for block in result["blocks"]]) > 1.1
    # A busy machine has some measured again.
    files = [raw["file"] for raw in result["raw"]]
    assert dict.fromkeys(re.sub(r"(try\d)?-worker0.parquet", "", file) for file in files) == {
        "look1": None,
        "blocks1": None,
    }
    assert "blocks 1: candidate and champion in turn, 10 times, 24 s" in progress
    raw = pq.read_table(tmp_path / "out" / files[-1])
    turns = sorted(zip(raw["turn"].to_pylist(), raw["version"].to_pylist(), strict=True))
    served = [{version for turn, version in turns if turn == number} for number in range(20)]
    assert served == [{"6"}, {"5"}, {"5"}, {"6"}] * 5
    assert (tmp_path / "out" / "report.html").read_text().count("<svg") == 4


def test_a_champion_of_another_version_holds_the_run_back(tmp_path: Path) -> None:
    with serving(version="6") as (host, _), serving(version="4") as (other, _):
        comparison = {"host": other, "expected_version": "5", "blocks": 10, "block_s": 1.5, "warmup_s": 0}
        code, result, _ = run(tmp_path, host, comparison=comparison | {"margin": 1.1, "tolerance_ms": 1.0})
    assert (code, result["verdict"]) == (4, "inconclusive")
    assert 'the target serves "4", the plan expects "5"' in check_of(result, "versions")["message"]


def test_a_run_that_watches_its_caller_ends_by_itself(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loadtests.run", "--end-with-stdin", "--out", str(tmp_path / "out")]
    command += ["--plan", str(write_plan(tmp_path, "http://127.0.0.1:9"))]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE) as running:
        assert running.wait(60) == 4


def test_a_run_whose_caller_died_ends_with_its_locust(tmp_path: Path) -> None:
    with serving(delay_ms=2) as (host, _):
        command = [sys.executable, "-m", "loadtests.run", "--end-with-stdin", "--out", str(tmp_path / "out")]
        command += ["--plan", str(write_plan(tmp_path, host, duration_s=60))]
        running = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        with running:
            assert running.stderr
            assert running.stdin
            for line in running.stderr:
                if line.startswith("look 1:"):
                    break
            running.stdin.close()
            running.stderr.read()
            assert running.wait(30) == 128 + signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            os.killpg(running.pid, 0)
    assert not (tmp_path / "out" / "result.json").exists()
