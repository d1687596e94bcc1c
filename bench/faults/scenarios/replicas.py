"""Replicas and supervisors that are killed or frozen, and a whole installation that is killed."""

import os
import signal
import time

from bench.faults.grounds import Grounds
from bench.faults.scenario import Scenario, expect

KILLED = 20
PARTS = ("executor", "api", "mlflow", "supervisor-staging-churn-model", "supervisor-production-churn-model")


def killed(grounds: Grounds) -> str:
    """Kill one after the other: each is replaced while the other serves."""
    longest_s = grounds.replicas.kill_in_turn(KILLED)
    restarts = sum(replica.restarts for replica in grounds.replicas.observe())
    expect(restarts >= KILLED, f"only {restarts} restarts are shown")
    return f"{KILLED} killed, each replaced within {longest_s:.1f} s; {restarts} restarts shown"


def frozen(grounds: Grounds) -> str:
    """Freeze one: it is replaced."""
    victim = grounds.replicas.ready()[0]
    os.killpg(os.getpgid(victim), signal.SIGSTOP)
    return f"replaced after {grounds.replicas.await_ready(without=victim):.1f} s"


def supervisor_killed_in_a_release(grounds: Grounds) -> str:
    """Kill it: the release is finished or undone once the supervisor is back."""
    grounds.make_way_back()
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


SCENARIOS = (
    Scenario(f"{KILLED} replicas killed", killed, spares=False),
    Scenario("replica frozen", frozen, spares=False),
    Scenario("supervisor killed in a release", supervisor_killed_in_a_release, spares=False),
    Scenario("everything killed", everything_killed, spares=False),
)
