"""What an operator's load run says at its end, and what it refuses before its beginning."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UsageError
from pipelines.operator.load_run import LoadRequest, next_step, run_loadtest
from pipelines.settings.settings import Settings

SATURATED = "lower RATE or add WORKERS, or run it again when the machine is quiet"
RELEASED = "run it again when nothing is being released"
LONGER = "run it again for longer, with a larger DURATION"
BROKEN = "fix what it names; a generator that can't keep up needs a lower RATE or more WORKERS"


def result(verdict: str, **checks: str) -> dict[str, Any]:
    """Return a load run's result with the verdicts of its checks."""
    about = {"generator_cpu": "generator", "versions": "served"}
    about |= dict.fromkeys(("achieved_rate", "control", "send_lag"), "machine")
    judged = [
        {"name": name, "verdict": found, "judged": True, "about": about.get(name, "target")}
        for name, found in checks.items()
    ]
    shown = {"name": "p50", "verdict": "inconclusive", "judged": False, "about": "target"}
    return {"verdict": verdict, "checks": [*judged, shown]}


def capacity(verdict: str, *, saturated: bool) -> dict[str, Any]:
    """Return the result of a search for the highest rate that ended with such a try."""
    tries = [{"verdict": "passed", "saturated": False}, {"verdict": verdict, "saturated": saturated}]
    return result("inconclusive", capacity="inconclusive") | {"tries": tries}


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (result("passed", p99="passed"), None),
        (result("failed", p99="failed", errors="inconclusive"), None),
        (result("inconclusive", p99="failed", generator_cpu="inconclusive"), SATURATED),
        (result("inconclusive", achieved_rate="inconclusive"), SATURATED),
        (result("inconclusive", send_lag="inconclusive", control="passed"), SATURATED),
        (result("inconclusive", control="inconclusive"), SATURATED),
        (result("inconclusive", versions="inconclusive"), RELEASED),
        (result("inconclusive", p99="inconclusive"), LONGER),
        (result("error", load="error"), BROKEN),
        (capacity("inconclusive", saturated=True), SATURATED),
        (capacity("error", saturated=False), BROKEN),
        (capacity("inconclusive", saturated=False), LONGER),
    ],
)
def test_a_run_that_decides_nothing_says_what_to_do_next(found: dict[str, Any], step: str | None) -> None:
    assert next_step(found) == step


@pytest.mark.parametrize("environment", ["production", "live", ""])
def test_nothing_but_staging_is_ever_loaded(tmp_path: Path, environment: str) -> None:
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home")})

    with pytest.raises(UsageError, match=f"'{environment}' is never loaded, only staging is") as refused:
        run_loadtest(LoadRequest(environment), settings, {}, print)
    assert refused.value.next == "--env staging"
    assert not settings.home.exists()


@pytest.mark.parametrize("shape", ["spike", "soak", "zigzag"])
def test_the_search_for_the_highest_rate_takes_no_shape(tmp_path: Path, shape: str) -> None:
    request = LoadRequest("staging", shape=shape, find_capacity=True)
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home")})

    with pytest.raises(UsageError, match=f"--find-capacity tries steady rates, not '{shape}'"):
        run_loadtest(request, settings, {}, print)
    assert not settings.home.exists()
