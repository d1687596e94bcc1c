"""Versions that crash, and bundles that are not what their digest says."""

import contextlib
import os
import shutil
import signal
from pathlib import Path

import psutil

from bench.faults.grounds import Grounds
from bench.faults.scenario import Scenario, expect
from bench.support.replicas import kill_replica
from pipelines.errors import DeployFailed
from tests.e2e.installation import BROKEN_LIBRARY
from tests.support.watching import again_and_again

_WATCH_S = 0.02


def crashing_at_its_start(grounds: Grounds) -> str:
    """Break what it loads: the old release serves, and the last log lines are shown."""
    slipway, before = grounds.slipway, grounds.serving()
    version = slipway.staged()
    broken = slipway.libraries / BROKEN_LIBRARY
    asking = slipway.begin("promote", "--version", version)
    slipway.await_state(version, "waiting", asking)
    broken.write_text("no library")
    try:
        slipway.done("approve", "--version", version, "--as", "bob")
        told = grounds.promoted(asking, code=DeployFailed.exit_code)
    finally:
        broken.unlink()
    expect(f"{BROKEN_LIBRARY}: file too short" in told, f"the last log lines are not shown: {told}")
    expect(grounds.serving() == before, f"production serves {grounds.serving()}")
    return f"v{version} did not start, v{before} serves"


def never_ready(grounds: Grounds) -> str:
    """Freeze each replica of it while it starts: the old release serves, and what was waited for is told."""
    before, version = grounds.serving(), grounds.slipway.staged()
    with again_and_again(lambda: _freeze_newcomers(grounds, version), _WATCH_S):
        told = grounds.promoted(grounds.slipway.ask_and_approve(version), code=DeployFailed.exit_code)
    expect("was not ready within" in told, f"what was waited for is not told: {told}")
    expect(grounds.serving() == before, f"production serves {grounds.serving()}")
    return f"v{version} was given up: {told.strip().splitlines()[-1][:120]}"


def crashing_after_its_start(grounds: Grounds) -> str:
    """Kill its replicas while they are watched: it is undone."""
    before, version = grounds.serving(), grounds.slipway.staged()
    with again_and_again(lambda: _kill_newcomers(grounds, version), _WATCH_S):
        told = grounds.promoted(
            grounds.slipway.ask_and_approve(version), code=DeployFailed.exit_code, within_s=3 * 60.0
        )
    grounds.await_that(lambda: grounds.serving() == before, f"v{before} to serve")
    return f"v{version} was undone: {told.strip().splitlines()[-1][:120]}"


def good_bad_bad_good(grounds: Grounds) -> str:
    """Roll two bad versions back, each to the good one; a further rollback goes behind it."""
    grounds.make_way_back()
    good = grounds.serving()
    bad = []
    for _ in range(2):
        version = grounds.release()
        bad.append(version)
        grounds.promoted(grounds.roll_back())
        expect(grounds.serving() == good, f"back from v{version}, production serves {grounds.serving()}, not {good}")
    grounds.promoted(grounds.roll_back())
    behind = grounds.serving()
    expect(behind not in (good, *bad), f"a further rollback went to v{behind}")
    return f"v{good}, v{bad[0]} back, v{bad[1]} back, then behind to v{behind}"


def bundle_spoiled(grounds: Grounds) -> str:
    """Spoil a bundle in three ways: it is refused by its digest, and released once it is whole again."""
    slipway, before = grounds.slipway, grounds.serving()
    version = slipway.staged()
    digest = str(slipway.health("staging")["digest"])
    model = slipway.home / "bundles" / digest.replace(":", "-") / "model.onnx"
    content = model.read_bytes()
    spoiled = {
        "corrupted": content[:1000] + bytes([content[1000] ^ 1]) + content[1001:],
        "truncated": content[: len(content) // 2],
        "swapped": b"another model",
    }
    for what, wrong in spoiled.items():
        _overwrite(model, wrong)
        try:
            told = grounds.promoted(slipway.ask_and_approve(version), code=DeployFailed.exit_code)
        finally:
            _overwrite(model, content)
        expect("expected" in told or "digest" in told, f"{what}: the digest is not named: {told}")
        expect(grounds.serving() == before, f"{what}: production serves {grounds.serving()}")
    grounds.promoted(slipway.ask_and_approve(version))
    return f"{', '.join(spoiled)}: refused; whole again, v{version} was released"


def _overwrite(file: Path, content: bytes) -> None:
    mode = file.stat().st_mode
    draft = file.with_suffix(".draft")
    draft.write_bytes(content)
    os.chmod(draft, mode)
    shutil.move(draft, file)


def _kill_newcomers(grounds: Grounds, version: str) -> None:
    """SIGKILL each replica of a version that serves production."""
    for replica in grounds.replicas.observe():
        if replica.version == version and replica.pid:
            with contextlib.suppress(ProcessLookupError):
                kill_replica(replica.pid)


def _freeze_newcomers(grounds: Grounds, version: str) -> None:
    """SIGSTOP each replica of a version that production's supervisor has started."""
    supervisor = grounds.slipway.process("supervisor-production-churn-model")
    for replica in supervisor.children() if supervisor else ():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if replica.environ().get("SLIPWAY_VERSION") == version:
                os.killpg(replica.pid, signal.SIGSTOP)


SCENARIOS = (
    Scenario("version crashes at its start", crashing_at_its_start),
    Scenario("version never becomes ready", never_ready),
    Scenario("version crashes while it is watched", crashing_after_its_start, spares=False),
    Scenario("bundle corrupted, truncated, swapped", bundle_spoiled),
    Scenario("good, bad, bad, good", good_bad_bad_good),
)
