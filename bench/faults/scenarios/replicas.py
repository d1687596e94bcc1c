"""Replicas and supervisors that are killed or frozen, and a whole installation that is killed."""

import os
import signal
import time

import httpx

from bench.faults.grounds import Grounds
from bench.faults.scenario import Scenario, expect

KILLED = 20
REPLACED_S = 30.0
PARTS = ("executor", "api", "mlflow", "supervisor-staging-churn-model", "supervisor-production-churn-model")


def killed(grounds: Grounds) -> str:
    """Kill one after the other: each is replaced while the other serves."""
    longest_s = 0.0
    for number in range(KILLED):
        ready = _ready_pids(grounds)
        victim = ready[number % len(ready)]
        os.killpg(os.getpgid(victim), signal.SIGKILL)
        longest_s = max(longest_s, _replaced(grounds, victim))
    restarts = sum(each["restarts"] for each in _seen(grounds))
    expect(restarts >= KILLED // 2, f"only {restarts} restarts are shown")
    return f"{KILLED} killed, each replaced within {longest_s:.1f} s; {restarts} restarts shown"


def frozen(grounds: Grounds) -> str:
    """Freeze one: it is replaced."""
    victim = _ready_pids(grounds)[0]
    os.killpg(os.getpgid(victim), signal.SIGSTOP)
    taken_s = _replaced(grounds, victim)
    return f"replaced after {taken_s:.1f} s"


def supervisor_killed_in_a_release(grounds: Grounds) -> str:
    """Kill it: the release is finished or undone once the supervisor is back."""
    slipway = grounds.slipway
    asking = grounds.roll_back()
    time.sleep(0.5)
    slipway.kill("supervisor-production-churn-model")
    grounds.mend()
    try:
        asking.communicate(timeout=90)
    finally:
        asking.kill()
    return f"rollback ended with {asking.returncode}; production serves v{grounds.serving()}"


def everything_killed(grounds: Grounds) -> str:
    """Kill every process: `up` mends it."""
    before = grounds.serving()
    for name in PARTS:
        grounds.slipway.kill(name)
    begun = time.monotonic()
    grounds.mend()
    expect(grounds.serving() == before, f"production serves {grounds.serving()}")
    return f"up after {time.monotonic() - begun:.1f} s"


def _seen(grounds: Grounds) -> list[dict[str, int]]:
    found: list[dict[str, int]] = grounds.slipway.read("status")["observed"]["production"]["replicas"]
    return found


def _ready_pids(grounds: Grounds) -> list[int]:
    """Return the workers of production that are ready, once all are."""
    workers: list[int] = []

    def all_ready() -> bool:
        workers[:] = grounds.workers()
        return len(workers) == len(grounds.replicas()) == 2

    grounds.await_that(all_ready, "both replicas to be ready", REPLACED_S)
    return workers


def _replaced(grounds: Grounds, victim: int) -> float:
    def without_it() -> bool:
        workers = grounds.workers()
        return victim not in workers and len(workers) == 2 and _ready(grounds)

    return grounds.await_that(without_it, f"process {victim} to be replaced", REPLACED_S)


def _ready(grounds: Grounds) -> bool:
    try:
        return httpx.get(f"{grounds.url}/ready", timeout=2, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


SCENARIOS = (
    Scenario(f"{KILLED} replicas killed", killed, spares=False),
    Scenario("replica frozen", frozen, spares=False),
    Scenario("supervisor killed in a release", supervisor_killed_in_a_release, spares=False),
    Scenario("everything killed", everything_killed, spares=False),
)
