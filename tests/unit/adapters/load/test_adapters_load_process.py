import json
import os
import signal
import subprocess
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.load.files import planned_s
from pipelines.adapters.load.process import LoadProcess, launched
from pipelines.errors import Cancelled, Undecided

PLAN: dict[str, Any] = {"host": "http://127.0.0.1:9", "warmup_s": 0, "duration_s": 0, "timeout_s": 0.5}
COMPARISON = {"blocks": 100, "block_s": 1, "warmup_s": 0.2}
ROWS = [{"age": 1}, {"age": 2}]
RESULT = {"verdict": "passed", "checks": []}


def stand_in(root: Path, body: str) -> LoadProcess:
    """Make a `loadtests.run` in `root` that has read its arguments as `plan` and `out`, then does `body`."""
    package = root / "loadtests"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    head = """
        import json, os, subprocess, sys, time
        from pathlib import Path
        assert [sys.argv[1], *sys.argv[2::2]] == ["--end-with-stdin", "--plan", "--out"], sys.argv
        plan, out = json.loads(Path(sys.argv[3]).read_text()), Path(sys.argv[5])
        out.mkdir(exist_ok=True)
    """
    (package / "run.py").write_text(textwrap.dedent(head) + textwrap.dedent(body))
    return LoadProcess(root, spare_s=20.0)


def leave_result(code: int) -> str:
    return f"""
        (out / "result.json").write_text(json.dumps({{"verdict": "passed", "checks": []}}))
        (out / "report.html").write_text("<html>")
        sys.exit({code})
    """


@pytest.mark.parametrize("code", [0, 3, 4])
def test_a_judged_run_gives_its_result_whatever_the_verdict(tmp_path: Path, code: int) -> None:
    run = stand_in(tmp_path / "root", leave_result(code)).run(PLAN, ROWS, tmp_path / "work")

    assert (run.result, run.report_html) == (RESULT, b"<html>")


def test_a_run_that_has_to_end_is_ended_with_what_it_started(tmp_path: Path) -> None:
    marks = tmp_path / "started"
    body = f"""
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path({str(marks)!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
        time.sleep(60)
    """

    def check() -> None:
        if marks.exists() and marks.read_text():
            raise Cancelled("e-1 was cancelled by bob")

    begun = time.monotonic()
    with pytest.raises(Cancelled):
        stand_in(tmp_path / "root", body).run(PLAN, ROWS, tmp_path / "work", check=check)
    assert time.monotonic() - begun < 50
    await_end_of([int(pid) for pid in marks.read_text().split()])


def test_the_run_is_given_the_plan_and_the_rows(tmp_path: Path) -> None:
    body = """
        rows = json.loads(Path(plan["rows_file"]).read_text())
        (out / "result.json").write_text(json.dumps({"verdict": "passed", "plan": plan, "rows": rows}))
    """
    run = stand_in(tmp_path / "root", body).run(PLAN, ROWS, tmp_path / "work")

    assert run.result["rows"] == ROWS
    assert {key: run.result["plan"][key] for key in PLAN} == PLAN


def test_a_run_without_a_page_has_an_empty_one(tmp_path: Path) -> None:
    body = '(out / "result.json").write_text(\'{"verdict": "passed"}\')'

    assert stand_in(tmp_path / "root", body).run(PLAN, ROWS, tmp_path / "work").report_html == b""


@pytest.mark.parametrize("code", [1, 2, 5])
def test_other_exit_codes_are_undecided_even_with_a_result_and_show_the_last_lines(tmp_path: Path, code: int) -> None:
    body = 'print("the port is taken", file=sys.stderr)' + leave_result(code)

    with pytest.raises(Undecided, match=f"ended with {code}: the port is taken"):
        stand_in(tmp_path / "root", textwrap.dedent(body).replace("        ", "")).run(PLAN, ROWS, tmp_path / "work")


def test_a_killed_run_is_undecided(tmp_path: Path) -> None:
    body = f"os.kill(os.getpid(), {signal.SIGKILL.value})"

    with pytest.raises(Undecided, match="ended with -9"):
        stand_in(tmp_path / "root", body).run(PLAN, ROWS, tmp_path / "work")


def test_exit_0_without_a_result_is_undecided(tmp_path: Path) -> None:
    with pytest.raises(Undecided, match="ended with 0"):
        stand_in(tmp_path / "root", "").run(PLAN, ROWS, tmp_path / "work")


def test_a_result_of_an_earlier_run_is_not_taken_for_this_one(tmp_path: Path) -> None:
    stand_in(tmp_path / "first", leave_result(0)).run(PLAN, ROWS, tmp_path / "work")

    with pytest.raises(Undecided):
        stand_in(tmp_path / "second", "").run(PLAN, ROWS, tmp_path / "work")


def test_a_run_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    body = """
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (out / "pids.json").write_text(json.dumps([os.getpid(), child.pid]))
        time.sleep(600)
    """
    stand_in(tmp_path / "root", body)
    loads = LoadProcess(tmp_path / "root", spare_s=1.0)

    with pytest.raises(Undecided, match="did not end within 7 s"):
        loads.run(PLAN, ROWS, tmp_path / "work")

    await_end_of(json.loads((tmp_path / "work" / "out" / "pids.json").read_text()))


def test_a_run_that_is_killed_takes_what_it_started_with_it(tmp_path: Path) -> None:
    body = """
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (out / "pids.json").write_text(json.dumps([child.pid]))
        os.kill(os.getpid(), 9)
    """
    with pytest.raises(Undecided, match="ended with -9"):
        stand_in(tmp_path / "root", body).run(PLAN, ROWS, tmp_path / "work")

    await_end_of(json.loads((tmp_path / "work" / "out" / "pids.json").read_text()))


def test_a_caller_that_is_interrupted_leaves_nothing_running(tmp_path: Path) -> None:
    stand_in(tmp_path, 'print("begun", flush=True); time.sleep(600)')
    (tmp_path / "plan.json").write_text("{}")
    arguments = ["--plan", str(tmp_path / "plan.json"), "--out", str(tmp_path / "out")]
    run = launched(arguments, root=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    with pytest.raises(KeyboardInterrupt), run as process:
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        raise KeyboardInterrupt

    assert process.returncode == -signal.SIGKILL


def test_the_time_that_a_plan_may_take_counts_what_timeouts_cost() -> None:
    plan = {"warmup_s": 5, "duration_s": 60, "timeout_s": 5}

    # Two looks, and two that are measured again.
    assert planned_s(plan) == 4 * (5 + 60 + 6)
    # Each turn of a block waits for its last requests before the next one begins.
    assert planned_s({**plan, "comparison": COMPARISON}) == pytest.approx(4 * (5 + 60 + 6 + 200 * (1.2 + 6)))


def await_end_of(pids: list[int]) -> None:
    deadline = time.monotonic() + 10
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, f"still running: {[pid for pid in pids if is_running(pid)]}"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan that nobody waits for is dead all the same.
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
