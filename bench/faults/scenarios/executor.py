"""Executors that are killed, frozen and woken, and fifty promotions at once."""

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import httpx

from bench.faults.grounds import STEPS, Executor, Grounds
from bench.faults.scenario import Scenario, expect
from pipelines.api.client import ApiClient
from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation
from pipelines.errors import LostLease
from pipelines.settings.tokens import read_tokens
from pipelines.wiring.stores import open_records

AT_ONCE = 50
RANDOM_KILLS = 4
RECOVERED_S = 15.0


def killed_at_each_step(grounds: Grounds) -> str:
    """Kill the executors of one promotion, each at the step after the one that its predecessor died at."""
    slipway = grounds.slipway
    version, champion = slipway.staged(), grounds.serving()
    grounds.end_executor()
    recovered_s = []
    with grounds.executor(SLIPWAY_FAULT=f"{STEPS[0]}:kill") as first:
        asking = slipway.ask_and_approve(version)
        grounds.await_that(lambda: first.has_ended, f"the executor to die at {STEPS[0]}")
    for died, step in pairwise(STEPS):
        begun = time.monotonic()
        with grounds.executor(SLIPWAY_FAULT=f"{step}:kill") as executor:
            _await_ended(grounds, executor, f"the one after {died} to die at {step}")
        recovered_s.append(time.monotonic() - begun)
        expect(grounds.serving() in (champion, version), f"after {step} production serves {grounds.serving()}")
    begun = time.monotonic()
    grounds.mend()
    told = grounds.promoted(asking)
    recovered_s.append(time.monotonic() - begun)
    # With K9 the release is done and the lease given back: what follows has nothing to recover for whoever waits.
    missing = [step for step in STEPS[:9] if f"interrupted at {step}, recovered" not in told]
    expect(missing == [], f"not told as interrupted: {', '.join(missing)}")
    expect(grounds.serving() == version, f"production serves {grounds.serving()}")
    grounds.figures["recovery_max_s"] = max(recovered_s)
    return f"v{version} released through {len(STEPS)} deaths; each successor went on within {max(recovered_s):.1f} s"


def _await_ended(grounds: Grounds, executor: Executor, what: str) -> None:
    grounds.await_that(lambda: executor.has_ended, what)


def frozen_at_each_step(grounds: Grounds) -> str:
    """Freeze executors through every step of one rollback."""
    return frozen_at(grounds, STEPS)


def frozen_at(grounds: Grounds, steps: Sequence[str]) -> str:
    """Freeze each executor of one rollback one step later, and wake it once its successor has taken over."""
    grounds.make_way_back()
    slipway, bad = grounds.slipway, grounds.serving()
    grounds.end_executor()
    former: Executor | None = None
    executors: list[Executor] = []
    asking = grounds.roll_back()
    try:
        for step in steps:
            executor = Executor(slipway, {"SLIPWAY_FAULT": f"{step}:freeze"})
            executors.append(executor)
            _await_frozen(grounds, executor, step)
            if former:
                _wake(grounds, former)
            former = executor
        grounds.mend()
        told = grounds.promoted(asking)
        if former:
            _wake(grounds, former)
    finally:
        for executor in executors:
            executor.kill()
    expect(grounds.serving() != bad, f"production still serves {bad}")
    return f"{len(executors)} woke after a take-over, and each stopped: {told.strip().splitlines()[-1]}"


def _await_frozen(grounds: Grounds, executor: Executor, step: str) -> None:
    grounds.await_that(lambda: executor.is_frozen or executor.has_ended, f"an executor to freeze at {step}")
    expect(not executor.has_ended, f"the executor ended at {step}: {executor.said()[-400:]}")


def _wake(grounds: Grounds, executor: Executor) -> None:
    """Wake a frozen one, and wait until it has stopped for the right reason."""
    executor.wake()
    grounds.await_that(lambda: executor.has_ended, "a woken executor to stop")
    expect(executor.exit_code == LostLease.exit_code, f"a woken executor ended with {executor.exit_code}")
    said = executor.said()
    expect("lost lease" in said or "has taken over" in said, f"a woken executor said {said[-300:]!r}")


def killed_at_random(grounds: Grounds) -> str:
    """Kill the executors of one promotion at moments that nobody chose."""
    slipway, chance = grounds.slipway, random.Random(11)
    version = slipway.staged()
    asking = slipway.ask_and_approve(version)
    after_s = [round(chance.uniform(0.0, 4.0), 2) for _ in range(RANDOM_KILLS)]
    for delay_s in after_s:
        time.sleep(delay_s)
        grounds.end_executor()
        if asking.poll() is not None:
            break
        grounds.mend()
    grounds.mend()
    grounds.promoted(asking)
    expect(grounds.serving() == version, f"production serves {grounds.serving()}")
    return f"v{version} released; kills {', '.join(f'{s:g}' for s in after_s)} s after a start"


def fifty_at_once(grounds: Grounds) -> str:
    """Approve fifty versions with the same evidence while the executor is frozen, so that all begin in one round."""
    slipway = grounds.slipway
    tokens = read_tokens(slipway.settings.tokens_file)
    alice, bob = (ApiClient(slipway.settings, tokens[person]) for person in ("alice", "bob"))
    versions = _with_evidence_of(grounds, slipway.staged(), AT_ONCE)
    executor = slipway.process("executor")
    expect(executor is not None, "no executor runs")
    assert executor is not None
    executor.suspend()
    try:
        asked = [alice.post("/promotions", {"version": version}) for version in versions]
        for promotion in asked:
            digest = alice.get(f"/promotions/{promotion['id']}")["evaluation"]["report_digest"]
            bob.post("/approvals", {"version": promotion["version"], "approved": True, "report_digest": digest})
    finally:
        executor.resume()

    def states() -> "Counter[str]":
        found = [alice.get(f"/promotions/{promotion['id']}") for promotion in asked]
        return Counter((each["error"] or {}).get("code", each["state"]) for each in found)

    final = {"done", "lease_held", "approval_void", "refused"}
    grounds.await_that(lambda: set(states()) <= final, "fifty promotions to end", within_s=180)
    ended = states()
    expect(ended["done"] == 1, f"{ended['done']} of {AT_ONCE} were released: {dict(ended)}")
    return f"{AT_ONCE} at once: " + ", ".join(f"{count} {what}" for what, count in sorted(ended.items()))


def _with_evidence_of(grounds: Grounds, version: str, count: int) -> list[str]:
    """Register the same bytes as `count` more versions, and record for each the report of `version`."""
    mlflow = httpx.Client(base_url=f"{grounds.slipway.settings.mlflow_url}/api/2.0/mlflow", timeout=30, trust_env=False)
    asked = {"name": "churn-model", "version": version}
    known = mlflow.get("/model-versions/get", params=asked).raise_for_status().json()["model_version"]
    source = {"name": "churn-model", "source": known["source"], "run_id": known["run_id"], "tags": known["tags"]}
    records = open_records(grounds.slipway.settings)
    measured = records.find(Evaluation, version=version, state=RunState.DONE)[-1]
    versions = []
    for _ in range(count):
        made = mlflow.post("/model-versions/create", json=source).raise_for_status().json()["model_version"]
        report = {**(measured.report or {}), "version": made["version"]}
        with records.write() as transaction:
            transaction.add(
                dataclasses.replace(
                    measured,
                    id=transaction.new_id(Evaluation),
                    version=made["version"],
                    report=report,
                    report_digest=digest_of(canonical(report)),
                )
            )
        versions.append(str(made["version"]))
    return versions


SCENARIOS = (
    Scenario("executor killed at K0 to K10", killed_at_each_step),
    Scenario("executor frozen at K0 to K10 and woken", frozen_at_each_step),
    Scenario("executor killed at random", killed_at_random),
    Scenario("50 approved promotions at once", fifty_at_once),
)
