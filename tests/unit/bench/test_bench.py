import importlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import BENCHMARKS, MODULES, run_bench
from bench.service.echo import running_echo
from bench.support.machine import read_machine
from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place, own_place
from pipelines.developer.develop import become_benchmark
from pipelines.errors import Undecided, UsageError
from pipelines.settings.settings import ROOT, Settings

SLIPWAY = Path(sys.executable).with_name("slipway")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "project").mkdir()
    return Settings.from_environ({"SLIPWAY_PROJECT": str(tmp_path / "project")})


def quiet(line: str) -> None:
    pass


def counting(place: Place) -> Measured:
    """A benchmark that is quick: it counts."""
    place.report_progress("counting")
    return Measured(
        about="numbers are counted",
        figures={"counted": 3, "missed_s": 2.123456},
        limits=(Limit("counted", Bound.AT_LEAST, 3, aim=2), Limit("missed_s", Bound.AT_MOST, 1, aim=0.5)),
        samples={"each_s": (0.000051, 1.0)},
    )


def run_counting(settings: Settings, benchmark: Callable[[Place], Measured] = counting) -> dict[str, Any]:
    run_bench("counting", settings, {}, quiet, benchmarks={"counting": benchmark})
    written: dict[str, Any] = json.loads((settings.project / "bench/results/counting.json").read_text())
    return written


def test_an_unknown_benchmark_is_refused_with_the_names(settings: Settings) -> None:
    with pytest.raises(UsageError, match="no benchmark 'speed'") as refused:
        run_bench("speed", settings, {}, quiet)
    assert (
        refused.value.next
        == "one of: predict, request_log, replica, batches, swap, rollback, executor, cli, demo, upgrade, images,"
        " containers, judge, generator, training, gates, faults, nodes, all"
    )
    assert not (settings.project / "bench").exists()


def test_the_command_line_refuses_an_unknown_benchmark_with_exit_code_2(tmp_path: Path) -> None:
    environ = {**os.environ, "SLIPWAY_HOME": str(tmp_path)}
    done = subprocess.run(
        [SLIPWAY, "bench", "speed"], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "no benchmark 'speed'",
        "next: one of: predict, request_log, replica, batches, swap, rollback, executor, cli, demo, upgrade, images,"
        " containers, judge, generator, training, gates, faults, nodes, all",
    ]


def test_the_command_line_measures_nothing_where_there_are_no_benchmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever took this process over would end the tests with an exit code of its own.
    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("a benchmark took the process over"))
    with pytest.raises(UsageError, match="no part of an installation") as refused:
        become_benchmark(["cli"], os.environ, root=tmp_path)
    assert refused.value.next == "run it in a clone of Slipway"


def test_a_benchmark_that_is_told_to_end_says_so_with_exit_code_4(tmp_path: Path) -> None:
    environ = {**os.environ, "SLIPWAY_HOME": str(tmp_path / "home")}
    with subprocess.Popen(
        [SLIPWAY, "bench", "cli"], env=environ, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr and run.stderr.readline() == "--- cli\n"
        run.send_signal(signal.SIGTERM)
        said = run.stderr.read()
        assert run.wait(timeout=60) == 4
    assert said.splitlines()[-2:] == ["cli was cut off; what it started has ended", "next: slipway bench cli"]


def test_every_named_benchmark_is_a_module_that_measures() -> None:
    assert list(MODULES) == list(BENCHMARKS)
    for module in MODULES.values():
        assert callable(importlib.import_module(module).measure)


def test_no_wheel_holds_the_benchmarks(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    packages = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in packages if not name.endswith(".dist-info")} == {
        "app",
        "loadtests",
        "pipelines",
        "slipway",
    }


def test_a_result_is_written_with_figures_limits_and_machine(settings: Settings) -> None:
    body = run_counting(settings)
    assert set(body) == {
        "about", "commit", "figures", "limits", "machine", "measured_at", "name", "samples", "uncommitted_changes",
    }  # fmt: skip
    assert body["figures"] == {"counted": 3, "missed_s": 2.1235}
    assert body["samples"] == {"each_s": [0.0001, 1.0]}
    assert body["limits"] == [
        {"figure": "counted", "bound": ">=", "value": 3, "met": True, "aim": 2, "aim_reached": True},
        {"figure": "missed_s", "bound": "<=", "value": 1, "met": False, "aim": 0.5, "aim_reached": False},
    ]


def test_a_result_file_is_sorted_and_names_no_host_and_no_path(settings: Settings) -> None:
    body = run_counting(settings)
    text = (settings.project / "bench/results/counting.json").read_text()
    assert text == json.dumps(body, indent=2, sort_keys=True) + "\n"
    for private in (socket.gethostname(), str(settings.project), str(ROOT)):
        assert f'"{private}' not in text
    assert '"/' not in text


def test_what_is_printed_says_which_limits_were_missed(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run_counting(settings)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "counting: numbers are counted"
    assert f"{os.cpu_count()} cores" in lines[1]
    assert [line.split() for line in lines[2:]] == [
        ["figure", "value", "limit", "verdict"],
        ["counted", "3", ">=", "3", "met,", "aim", "2", "reached"],
        ["missed_s", "2.123", "<=", "1", "missed,", "aim", "0.5", "not", "reached"],
    ]


def test_all_runs_every_benchmark(settings: Settings) -> None:
    run_bench("all", settings, {}, quiet, benchmarks={"one": counting, "two": counting})
    assert sorted(path.name for path in (settings.project / "bench/results").iterdir()) == ["one.json", "two.json"]


def test_a_benchmark_gets_a_home_and_ports_of_its_own_that_vanish(settings: Settings) -> None:
    environ = {"SLIPWAY_HOME": "/elsewhere", "SLIPWAY_TOKEN": "secret", "PATH": "/bin"}
    with own_place(settings, environ, quiet) as place:
        own = place.settings
        assert own.home.is_relative_to(place.workdir)
        ports = {own.staging_port, own.production_port, own.api_port, own.mlflow_port}
        assert len(ports) == 4
        assert ports.isdisjoint({8000, 8001, 8080, 5000})
        assert (own.project, own.root) == (settings.project, settings.root)
        assert place.child_environ["SLIPWAY_HOME"] == str(own.home)
        assert "SLIPWAY_TOKEN" not in place.child_environ
        assert place.child_environ["PATH"] == "/bin"
    assert not place.workdir.exists()


def test_a_benchmark_that_is_cut_off_ends_without_a_result(settings: Settings) -> None:
    places: list[Place] = []

    def cut_off(place: Place) -> Measured:
        places.append(place)
        signal.raise_signal(signal.SIGINT)
        return counting(place)

    with pytest.raises(Undecided, match="counting was cut off"):
        run_counting(settings, cut_off)
    assert not places[0].workdir.exists()
    assert not (settings.project / "bench").exists()


@pytest.mark.parametrize(
    ("bound", "found", "met"),
    [
        (Bound.AT_LEAST, 5.0, True),
        (Bound.AT_LEAST, 4.999, False),
        (Bound.AT_MOST, 5.0, True),
        (Bound.AT_MOST, 5.001, False),
        (Bound.AT_LEAST, math.nan, False),
        (Bound.AT_MOST, math.nan, False),
    ],
)
def test_a_limit_is_met_up_to_itself_and_never_by_nan(bound: Bound, found: float, met: bool) -> None:
    limit = Limit("figure", bound, 5.0)
    assert limit.met(found) is met
    assert limit.reached(found) is None


def test_the_machine_is_named() -> None:
    machine = read_machine()
    assert machine.cpu and machine.system and machine.kernel
    assert machine.cores >= 1
    assert machine.memory_gib > 0
    assert machine.python.endswith(sys.version.split()[0])


def test_the_echo_runs_in_the_replicas_worker_and_leaves_no_process(settings: Settings) -> None:
    with own_place(settings, dict(os.environ), quiet) as place:
        with running_echo(place) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            request = "POST /predict HTTP/1.1\r\nHost: echo\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
            client.sendall(request.encode())
            with client.makefile("rb") as stream:
                answer = stream.read()
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["model"] == "echo"
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
