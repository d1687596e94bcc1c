"""`slipway report` against a real API: what it prints, and what it refuses."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn

from pipelines.api.server import server_config
from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.figures import Difference, Figures, Measured, Metric, Move, Versus
from pipelines.domain.report import Report
from pipelines.domain.verdict import GateResult, Verdict
from tests.support.servers.servers import free_port
from tests.support.world.api import TOKENS, Api
from tests.support.world.records import MODEL, add, evaluation, policy, release, report
from tests.support.world.supervisors import eventually

Verb = Callable[..., "subprocess.CompletedProcess[str]"]
HIDING = "[red]\x1b[2Kgood"
ACCURACY = GateResult("accuracy", Verdict.PASSED, f"PASS accuracy=0.8034 {HIDING}", 0.8034, (0.78, 0.82), 0.78)


@pytest.fixture
def slipway(api: Api, tmp_path: Path) -> Iterator[Verb]:
    """Serve the API for real, and run verbs against it."""
    port = free_port()
    server = uvicorn.Server(server_config(api.app, host="127.0.0.1", port=port))
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started, bool, 20)
    home = tmp_path / "home"
    home.mkdir()
    (home / "tokens.json").write_text(json.dumps(TOKENS))
    (home / "tokens.json").chmod(0o600)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_")}
    environ |= {"SLIPWAY_HOME": str(home), "SLIPWAY_PORT_API": str(port), "COLUMNS": "160"}

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "pipelines.cli", "report", *words, "--model", MODEL]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    yield run
    server.should_exit = True
    thread.join(20)


def drawn() -> Report:
    """Return the report of version 2, beside a champion."""
    versus = Versus(
        rows=1400, changed=21, better=12, worse=9, mean_shift=0.01, moves=(Move(before=0, after=1, rows=21),),
        metrics=(Difference(metric=Metric.AUC, candidate=0.84, champion=0.83),),
    )  # fmt: skip
    figures = Figures(rows=1409, metrics=(Measured(metric=Metric.AUC, value=0.845),), versus=versus)
    made = Report.read(report(policy=policy(), champion=release("r-1", "1"), gates=(ACCURACY,)))
    return made.model_copy(update={"figures": figures, "classes": ("No", f"Yes {HIDING}")})


def test_a_report_is_printed_with_what_people_decide_by(api: Api, slipway: Verb) -> None:
    add(api.records, evaluation(report=drawn().as_json()))

    done = slipway("2")

    assert done.returncode == 0, done.stderr
    assert "may it go to production?  Yes, once another person approves this report." in done.stdout
    assert "21 of 1,400 rows (1.5%) are decided otherwise than by version 1" in done.stdout
    assert "of all gates is nearest to its limit" in done.stdout
    assert "0.78 to 0.82" in done.stdout
    assert "ROC AUC  0.845" in done.stdout
    assert drawn().digest in done.stdout
    assert "\x1b" not in done.stdout and r"[red]\x1b[2Kgood" in done.stdout


def test_as_json_it_is_the_report_to_its_digest(api: Api, slipway: Verb) -> None:
    add(api.records, evaluation(report=drawn().as_json()))

    done = slipway("2", "--json")

    assert digest_of(canonical(json.loads(done.stdout))) == drawn().digest


def test_two_reports_are_shown_side_by_side(api: Api, slipway: Verb) -> None:
    other = report("1", policy=policy(**{"gates.accuracy.minimum": 0.5}), gates=(
        GateResult("accuracy", Verdict.FAILED, "FAIL: accuracy=0.7", 0.7, None, 0.78),
        GateResult("smoke", Verdict.PASSED, "PASS smoke"),
    ), verdict=Verdict.FAILED)  # fmt: skip
    add(api.records, evaluation(report=drawn().as_json()), evaluation("e-2", "1", report=other))

    done = slipway("2", "--compare", "1")

    assert done.returncode == 0, done.stderr
    table = done.stdout[done.stdout.index("version 2 beside version 1") :]
    assert "not measured alike: another policy" in table
    assert ["accuracy", "passed", "failed", "0.8034", "0.7", "+0.1034"] in [line.split() for line in table.splitlines()]
    assert ["smoke", "not", "measured", "passed"] in [line.split() for line in table.splitlines()]
    both = json.loads(slipway("2", "--compare", "1", "--json").stdout)
    assert (both["report"]["version"], both["compared"]["version"]) == ("2", "1")


@pytest.mark.parametrize(
    ("words", "message", "after"),
    [
        (("",), "no version is named", 'VERSION=n; "make versions" lists them'),
        (("1",), "has no report yet", 'measure it: "make deploy-staging VERSION=1"'),
        (("99",), "no version 99", ""),
        (("../2",), "is not a version number", "give the number"),
        (("2", "--compare", "99"), "no version 99", ""),
    ],
)
def test_what_has_no_report_ends_with_2_and_what_to_do(
    api: Api, slipway: Verb, words: tuple[str, ...], message: str, after: str
) -> None:
    add(api.records, evaluation(report=drawn().as_json()))

    done = slipway(*words)

    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert message in done.stderr and after in done.stderr
