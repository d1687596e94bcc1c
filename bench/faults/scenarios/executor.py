"""Executors that are killed, frozen and woken, and fifty promotions at once."""

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import httpx

from bench.faults.grounds import STEPS, Executor, Grounds
from bench.faults.scenario import NotHeld, Scenario, expect
from pipelines.api.client import ApiClient
from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation
from pipelines.errors import ApprovalVoid, LostLease
from pipelines.settings.tokens import read_tokens
from pipelines.wiring.stores import open_records

AT_ONCE = 50
RANDOM_KILLS = 4
TRIES = 8
ALIAS_MOVED = "K8"
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
    """Freeze the executors of one promotion, each one step later; most wake while its alias is moved and not recorded.

    Not earlier: on its way to its end, one that wakes may record steps that only read, which its successors then pass.
    """
    slipway = grounds.slipway
    version = slipway.staged()
    grounds.end_executor()
    frozen: list[Executor] = []
    asking = slipway.ask_and_approve(version)
    try:
        for step in STEPS:
            frozen.append(_frozen_at(grounds, step))
            if step == ALIAS_MOVED:
                *former, last = frozen
                _wake(grounds, former)
                frozen = [last]
        grounds.mend()
        told = grounds.promoted(asking).strip().splitlines()[0]
        _wake(grounds, frozen)
    finally:
        for executor in frozen:
            executor.kill()
    expect(grounds.serving() == version, f"production serves {grounds.serving()}")
    return f"{len(STEPS)} woke after a take-over, and each stopped: {told}"


def _frozen_at(grounds: Grounds, step: str) -> Executor:
    """Return an executor that froze at a step.

    Nobody can write beside one that froze in a transaction: as `up` does, it is ended before it has a successor.
    """
    for _ in range(TRIES):
        executor = Executor(grounds.slipway, {"SLIPWAY_FAULT": f"{step}:freeze"})
        _await_frozen(grounds, executor, step)
        if not grounds.is_locked():
            return executor
        executor.kill()
    raise NotHeld(f"{TRIES} executors froze at {step} in a transaction")


def _await_frozen(grounds: Grounds, executor: Executor, step: str) -> None:
    try:
        grounds.await_that(lambda: executor.is_frozen or executor.has_ended, f"an executor to freeze at {step}")
        expect(not executor.has_ended, f"the executor ended at {step}: {executor.said()[-400:]}")
    except NotHeld:
        executor.kill()
        raise


def _wake(grounds: Grounds, executors: Sequence[Executor]) -> None:
    """Wake frozen ones, and wait until each has stopped for the right reason."""
    for executor in executors:
        executor.wake()
    for executor in executors:
        _await_ended(grounds, executor, "a woken executor to stop")
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
    """Approve fifty versions while the executor is frozen, so that all begin in one round, and one more after them."""
    slipway = grounds.slipway
    tokens = read_tokens(slipway.settings.tokens_file)
    alice, bob = (ApiClient(slipway.settings, tokens[person]) for person in ("alice", "bob"))
    versions = _with_evidence_of(grounds, slipway.staged(), AT_ONCE + 1)
    executor = slipway.process("executor")
    assert executor is not None, "no executor runs"
    executor.suspend()
    try:
        *asked, late = [str(alice.post("/promotions", {"version": version})["id"]) for version in versions]
        for id in asked:
            _decide(bob, id, approved=True)
    finally:
        executor.resume()
    found: list[dict[str, Any]] = []

    def ended() -> bool:
        found[:] = [each for each in alice.get("/promotions")["promotions"] if each["id"] in asked]
        return all(each["state"] in ("done", "stopped") for each in found)

    grounds.await_that(ended, f"{AT_ONCE} promotions to end")
    told = _judge_at_once(found)
    try:
        _decide(bob, late, approved=True)
    except ApprovalVoid as void:
        _decide(bob, late, approved=False)
        return f"{told}; a yes after it: {void.message}"
    raise NotHeld("a yes to a report of before the change was taken")


def _decide(person: ApiClient, promotion_id: str, *, approved: bool) -> None:
    promotion = person.get(f"/promotions/{promotion_id}")
    digest = promotion["evaluation"]["report_digest"]
    answer = {"version": promotion["version"], "approved": approved, "report_digest": digest, "reason": "as asked"}
    person.post("/approvals", answer)


def _judge_at_once(found: Sequence[Mapping[str, Any]]) -> str:
    """One was released; the others name it as the holder, with since when, or as the champion that they don't know."""
    done = [each for each in found if each["state"] == "done"]
    expect(len(done) == 1, f"{len(done)} of {len(found)} were released")
    (released,) = done
    named = {"lease_held": f"{released['id']} since ", "approval_void": f"but {released['release_id']} serves now"}
    counted: Counter[str] = Counter()
    for each in found:
        if each is not released:
            code, message = each["error"]["code"], each["error"]["message"]
            expect(named.get(code, "\n") in message, f"{each['id']} ended as {code}: {message}")
            counted[code] += 1
    return f"of {len(found)} one was released; " + ", ".join(f"{n} {code}" for code, n in sorted(counted.items()))


def _with_evidence_of(grounds: Grounds, version: str, count: int) -> list[str]:
    """Register the same bytes as `count` more versions, and record for each the report of `version`."""
    mlflow = httpx.Client(base_url=f"{grounds.slipway.settings.mlflow_url}/api/2.0/mlflow", timeout=30, trust_env=False)
    asked = {"name": "churn-model", "version": version}
    known = mlflow.get("/model-versions/get", params=asked).raise_for_status().json()["model_version"]
    # MLflow takes a logged model as a source only with its id, which it does not tell.
    model_id = known["source"].removeprefix("models:/")
    source = {**{key: known[key] for key in ("name", "source", "run_id", "tags")}, "model_id": model_id}
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
    records.close()
    return versions


SCENARIOS = (
    Scenario("executor killed at K0 to K10", killed_at_each_step),
    Scenario("executor frozen at K0 to K10 and woken", frozen_at_each_step),
    Scenario("executor killed at random", killed_at_random),
    Scenario("50 approved promotions at once", fifty_at_once),
)
