"""The operator's load run: staging's live slot, under the policy in force, from this machine or from the swarm."""

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from pipelines.domain.policy import Policy
from pipelines.domain.release import Environment
from pipelines.domain.verdict import Verdict
from pipelines.errors import Undecided, UsageError
from pipelines.evaluation.gates.service.slo_limits import MOST_WORKERS
from pipelines.operator.health import read_health
from pipelines.ports import LoadRunner
from pipelines.settings.models import ModelProject
from pipelines.settings.settings import Settings
from pipelines.wiring.load_runs import hold_load_runs, launch_load
from pipelines.wiring.targets import wiring_of

ProgressReporter = Callable[[str], None]
N = TypeVar("N", int, float)
SOAK_S = 1800.0
# Where `dvc repro` leaves the evaluation set of this working tree.
EVALUATION = Path("data/snapshots/evaluation.parquet")
_REFUSED = 2
_STEADY = "steady"
# What the checks of a run are about (the words of loadtests/judge/verdict.py).
_SENDING = {"generator", "machine"}
_SERVED = "served"
_CODES = {"passed": 0, "failed": 3}
_UNDECIDED = 4
_JUDGED = {*_CODES.values(), _UNDECIDED}


@dataclass(frozen=True)
class LoadRequest:
    """What somebody asks for, of the default model if none is named; what is None is the policy's."""

    environment: str
    model: str = ""
    rate_per_s: float | None = None
    duration_s: float | None = None
    workers: int = 1
    shape: str = _STEADY
    find_capacity: bool = False

    @classmethod
    def parse(
        cls,
        *,
        environment: str,
        rate: str,
        duration: str,
        workers: str,
        shape: str,
        find_capacity: bool,
        model: str = "",
    ) -> "LoadRequest":
        """Read what was typed, "" being nothing; raise UsageError for what is no number."""
        return cls(
            environment=environment,
            model=model,
            rate_per_s=_number("RATE", rate, float, "a number") if rate else None,
            duration_s=_number("DURATION", duration, float, "a number, in seconds") if duration else None,
            workers=_workers(workers) if workers else 1,
            shape=shape or _STEADY,
            find_capacity=find_capacity,
        )


def _number(name: str, typed: str, read: Callable[[str], N], what: str) -> N:
    try:
        return read(typed)
    except ValueError:
        raise UsageError(f"{name} {typed[:40]!r} is no number", next=f"give {what}") from None


def _workers(typed: str) -> int:
    found = _number("WORKERS", typed, int, "a whole number")
    if not 1 <= found <= MOST_WORKERS:
        raise UsageError(f"WORKERS {found} is out of range", next=f"give 1 to {MOST_WORKERS}, one a core")
    return found


def run_loadtest(
    request: LoadRequest,
    settings: Settings,
    policy: Mapping[str, Any] | None,
    report_progress: ProgressReporter,
    *,
    swarm: Callable[[], LoadRunner] | None = None,
) -> tuple[int, dict[str, Any]]:
    """Run and judge the load; return the exit code of its verdict, and the result with its `directory` and `next`.

    It comes from processes of this machine; several workers of one run from `swarm`, where there is one.
    Raises UsageError for what is refused before anything is sent.
    """
    if request.environment != Environment.STAGING:
        raise UsageError(f"{request.environment[:40]!r} is never loaded, only staging is", next="--env staging")
    if request.find_capacity and request.shape != _STEADY:
        raise UsageError(f"--find-capacity tries steady rates, not {request.shape[:40]!r}", next="leave the shape out")
    if policy is None:
        raise UsageError("no policy is in force", next='"make policy-apply"')
    health = read_health(settings, Environment.STAGING, request.model)
    if not health.get("version"):
        raise UsageError("staging serves no release", next='"make deploy-staging"')
    _forget_old(settings.home / "loadtests", Policy.read(policy).retention.work_days)
    directory = settings.home / "loadtests" / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
    rows = _rows(settings, settings.model(request.model))
    directory.mkdir(parents=True)
    rows_file, plan_file = directory / "rows.json", directory / "plan.json"
    rows_file.write_text(json.dumps(rows))
    plan = _plan(request, settings, Policy.read(policy), str(health["version"]))
    plan_file.write_text(json.dumps({**plan, "rows_file": str(rows_file)}, indent=2))
    try:
        if swarm and request.workers > 1 and not request.find_capacity:
            _run(plan_file, directory, settings, report_progress, "--check")
            # Each run removes what is left of others, and would take a second one for that.
            with hold_load_runs(settings):
                result = _run_in_swarm(swarm(), plan, rows, directory)
            code = _CODES.get(result["verdict"], _UNDECIDED)
        else:
            code = _run(plan_file, directory, settings, report_progress, *["--find-capacity"] * request.find_capacity)
            result = json.loads((directory / "result.json").read_text())
    except UsageError:
        # Nothing was sent, so nothing is left of it.
        shutil.rmtree(directory)
        raise
    return code, {**result, "directory": str(directory), "next": next_step(result)}


def _forget_old(runs: Path, days: float) -> None:
    """Remove what runs have left that were made so long ago."""
    since = time.time() - days * 86400
    for run in runs.glob("*"):
        if run.stat().st_mtime < since:
            shutil.rmtree(run)


def next_step(result: Mapping[str, Any]) -> str | None:
    """Say what to do about a run that decided nothing, by what kept it from that; None for one that decided."""
    if result["verdict"] in (Verdict.PASSED, Verdict.FAILED):
        return None
    last = (result.get("tries") or [result])[-1]
    if last["verdict"] == Verdict.ERROR:
        return "fix what it names; a generator that can't keep up needs a lower RATE or more WORKERS"
    held = {check["about"] for check in result["checks"] if check["judged"] and check["verdict"] != Verdict.PASSED}
    if last.get("saturated") or held & _SENDING:
        return "lower RATE or add WORKERS, or run it again when the machine is quiet"
    if _SERVED in held:
        return "run it again when nothing is being released"
    return "run it again for longer, with a larger DURATION"


def _plan(request: LoadRequest, settings: Settings, policy: Policy, version: str) -> dict[str, Any]:
    from pipelines.evaluation.gates.service.load_plan import load_plan
    from pipelines.evaluation.gates.service.slo import SLO

    # What serves already has had its first request, and no champion stands beside it.
    slo = SLO.limits_of(policy).model_copy(update={"first_request_ms": None})
    plan = load_plan(slo, settings.address(settings.endpoint(Environment.STAGING, request.model)), version)
    if request.rate_per_s is not None:
        plan["rate_per_s"] = request.rate_per_s
    if request.duration_s is not None:
        plan["duration_s"] = request.duration_s
    elif request.shape == "soak":
        plan["duration_s"] = SOAK_S
    in_flight = plan["rate_per_s"] * plan["timeout_s"]
    plan["max_in_flight"] = max(request.workers, math.ceil(in_flight)) if math.isfinite(in_flight) else request.workers
    via = wiring_of(settings.target).LOAD_PATH
    return {**plan, "workers": request.workers, "shape": {"kind": request.shape}, "via": via}


def _rows(settings: Settings, project: ModelProject) -> list[Any]:
    """Return the requests of the newest evaluation known here, or made of what was trained or demonstrated last."""
    from pipelines.evaluation.subject import ROWS
    from pipelines.packaging.confined import REQUEST_ROWS
    from pipelines.packaging.snapshot import read_snapshot

    model = project.name
    rows: list[Any]
    for path in sorted((settings.home / "work").glob(f"*/{ROWS}"), key=lambda path: path.stat().st_mtime, reverse=True):
        kept = json.loads(path.read_bytes())
        if kept["model"] == model:
            rows = kept["rows"]
            return rows
    # These were written by this very project: a stranger's are read by confined jobs alone.
    for path in (project.folder / EVALUATION, settings.demo_tree / EVALUATION):
        if path.exists() and (snapshot := read_snapshot(path)).description.model == model:
            rows = snapshot.features.head(REQUEST_ROWS).to_dict(orient="records")
            return rows
    raise UsageError(f"no evaluation set of {model} to draw requests from", next='"make candidate"')


def _run_in_swarm(runner: LoadRunner, plan: dict[str, Any], rows: list[Any], directory: Path) -> dict[str, Any]:
    """Run a plan in the swarm, and leave its files as a run of this machine does."""
    result = runner.run(plan, rows, directory).result
    for file in (directory / "out").iterdir():
        file.rename(directory / file.name)
    (directory / "out").rmdir()
    return result


def _run(plan: Path, out: Path, settings: Settings, report_progress: ProgressReporter, *options: str) -> int:
    """Run `loadtests.run` with its progress told, and return its exit code; it ends when this process does."""
    arguments = ["--plan", str(plan), "--out", str(out), *options]
    last = ""
    with launch_load(arguments, settings) as process:
        for line in process.stderr or ():
            last = line.decode(errors="replace").rstrip()
            if not last.startswith("error: "):
                report_progress(last)
        code = process.wait()
    if code == _REFUSED:
        raise UsageError(last.removeprefix("error: ").removeprefix("plan: "), next="ask for what can be proven")
    if code not in _JUDGED:
        raise Undecided(f"the load run ended with {code}: {last}", next="fix what it names, then run it again")
    return code
