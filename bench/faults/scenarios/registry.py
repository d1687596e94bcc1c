"""A model registry that is down, hangs, fails after it has written, or is written to by hand."""

import signal
import time
from collections.abc import Callable

import httpx

from bench.faults.grounds import Grounds
from bench.faults.registry_proxy import RegistryProxy, Treatment, registry_proxy
from bench.faults.scenario import Scenario, expect
from bench.support.replicas import kill_replica
from pipelines.errors import Refused, RegistryUnavailable

HELD_S = 8.0
# As often as MLflow's own client tries before it gives up: what follows has to read before it writes once more.
FAILURES = 2
SHOWN_WITHIN_S = 10.0
REFUSED_WITHIN_S = 60.0


def down(grounds: Grounds) -> str:
    """Kill it: nothing is changed, and replicas start without it."""
    slipway, before = grounds.slipway, grounds.serving()
    slipway.kill("mlflow")
    ended = slipway.slipway("promote", "--version", "1")
    expect(ended.returncode == RegistryUnavailable.exit_code, f"promote ended with {ended.returncode}: {ended.stderr}")
    victim = grounds.replicas.ready()[0]
    kill_replica(victim)
    grounds.replicas.await_ready(without=victim)
    expect(grounds.serving() == before, f"production serves {grounds.serving()}")
    grounds.mend()
    return ended.stderr.strip().splitlines()[0]


def hanging_before_anything_moved(grounds: Grounds) -> str:
    """Freeze it: what asks it is refused in bounded time."""
    slipway, before = grounds.slipway, grounds.serving()
    process = slipway.process("mlflow")
    assert process is not None
    begun = time.monotonic()
    for each in [process, *process.children(recursive=True)]:
        each.send_signal(signal.SIGSTOP)
    try:
        ended = slipway.slipway("promote", "--version", "1")
    finally:
        for each in [process, *process.children(recursive=True)]:
            each.send_signal(signal.SIGCONT)
    taken_s = time.monotonic() - begun
    expect(ended.returncode == RegistryUnavailable.exit_code, f"promote ended with {ended.returncode}: {ended.stderr}")
    expect(taken_s < REFUSED_WITHIN_S, f"promote waited {taken_s:.0f} s")
    expect(grounds.serving() == before, f"production serves {grounds.serving()}")
    return f"refused after {taken_s:.1f} s: {ended.stderr.strip().splitlines()[0]}"


def failing_after_the_write(grounds: Grounds) -> str:
    """Answer the move of the alias with 500 after it was written: the release goes on."""

    def fail(method: str, path: str, proxy: RegistryProxy) -> Treatment:
        failing = _moves_alias(method, path) and proxy.met < FAILURES
        return Treatment.FAIL_AFTER if failing else Treatment.PASS

    told, proxy = _release_through(grounds, fail, lambda proxy: None)
    expect(proxy.met == FAILURES, f"the executor met {proxy.met} failures")
    return f"released all the same: {told}"


def hanging_while_the_alias_moves(grounds: Grounds) -> str:
    """Hold the move of the alias for some seconds: the release goes on after it."""

    def hold(method: str, path: str, proxy: RegistryProxy) -> Treatment:
        held = _moves_alias(method, path) and not proxy.released.is_set()
        return Treatment.HOLD if held else Treatment.PASS

    def let_go(proxy: RegistryProxy) -> None:
        grounds.await_that(lambda: proxy.met > 0, "the executor to move the alias")
        time.sleep(HELD_S)
        proxy.released.set()

    told, _ = _release_through(grounds, hold, let_go)
    return f"held for {HELD_S:g} s, then released: {told}"


def alias_moved_by_hand(grounds: Grounds) -> str:
    """Move it: that is shown and audited, a promotion is held, no restart picks it up; put back, all agrees."""
    slipway, served = grounds.slipway, grounds.serving()
    version = slipway.staged()
    _move_by_hand(grounds, version)
    try:
        shown_s = grounds.await_that(lambda: _drift(grounds) is not None, "the drift to be shown", SHOWN_WITHIN_S)
        told = grounds.promoted(slipway.ask_and_approve(version), code=Refused.exit_code)
        expect(f"@production points at version {version}" in told, f"the promotion was refused otherwise: {told}")
        broken = {each["id"] for each in slipway.read("doctor")["invariants"] if each["holds"] is False}
        expect("I2" in broken, f"the doctor finds {sorted(broken)}")
        for victim in grounds.replicas.ready():
            kill_replica(victim)
            grounds.replicas.await_ready(without=victim)
        expect(grounds.serving() == served, f"a restart picked up version {grounds.serving()}")
        entries = slipway.read("audit", "--limit", "50")["entries"]
        expect(any(entry["action"] == "drift" for entry in entries), "the audit does not tell of it")
    finally:
        _move_by_hand(grounds, served)
    grounds.await_that(lambda: _drift(grounds) is None, "the drift to be gone", SHOWN_WITHIN_S)
    return f"shown after {shown_s:.1f} s, promotion held, restart of all replicas served v{served}"


def _release_through(
    grounds: Grounds,
    treat: Callable[[str, str, RegistryProxy], Treatment],
    meanwhile: Callable[[RegistryProxy], None],
) -> tuple[str, RegistryProxy]:
    """Release a version by an executor that reaches MLflow through a proxy; return what was told."""
    slipway = grounds.slipway
    version = slipway.staged()
    grounds.end_executor()
    with registry_proxy(slipway.settings.mlflow_url) as proxy:
        proxy.treat = lambda method, path: treat(method, path, proxy)
        with grounds.executor(SLIPWAY_PORT_MLFLOW=str(proxy.port)) as executor:
            grounds.await_that(lambda: executor.is_ready, "an executor behind the proxy")
            asking = slipway.ask_and_approve(version)
            meanwhile(proxy)
            told = grounds.promoted(asking)
    grounds.mend()
    expect(grounds.serving() == version, f"production serves {grounds.serving()}")
    return told.strip().splitlines()[0], proxy


def _moves_alias(method: str, path: str) -> bool:
    return method == "POST" and path.endswith("/registered-models/alias")


def _move_by_hand(grounds: Grounds, version: str) -> None:
    url = f"{grounds.slipway.settings.mlflow_url}/api/2.0/mlflow/registered-models/alias"
    body = {"name": "churn-model", "alias": "production", "version": version}
    httpx.post(url, json=body, timeout=30, trust_env=False).raise_for_status()


def _drift(grounds: Grounds) -> str | None:
    """Return what `status` says of how production disagrees."""
    seen = grounds.slipway.read("status")["observed"]["production"]
    return None if seen["drift"] is None else str(seen["drift"])


SCENARIOS = (
    Scenario("MLflow down", down, spares=False),
    Scenario("MLflow hangs before anything moved", hanging_before_anything_moved),
    Scenario("MLflow answers 500 after it has moved the alias", failing_after_the_write),
    Scenario("MLflow hangs while the alias moves", hanging_while_the_alias_moves),
    Scenario("alias moved by hand", alias_moved_by_hand, spares=False),
)
