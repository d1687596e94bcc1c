"""Versions that answer the same, but later: stopped by the absolute limit, or by the comparison with production."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation
from tests.support.world.slow_model import slowed

pytestmark = pytest.mark.timeout(900)

COLUMN = "TotalCharges"
# Which nothing that a busy machine does to a slowed version breaks.
LIMITS = [{"quantile": 0.95, "limit_ms": 1000, "judged": True}, {"quantile": 0.99, "limit_ms": 2000, "judged": True}]
# Few of the blocks that policy.yaml asks for, and a tolerance within which a generator is on time beside other tests.
COMPARISON = {"blocks": 12, "block_s": 1, "warmup_s": 0.2, "margin": 1.1, "tolerance_ms": 30}


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Installation]:
    """An installation that has served nothing yet."""
    installation = Installation(tmp_path)
    try:
        installation.done("up")
        yield installation
    finally:
        installation.remove()


def test_a_version_that_breaks_the_absolute_limit_is_stopped_without_a_champion(
    served: Installation, empty: Installation, tmp_path: Path
) -> None:
    # A third of a core: on a machine that is three times as busy it still answers, late.
    limits = [{"quantile": 0.95, "limit_ms": 400, "judged": True}]
    empty.apply_policy(quantiles=limits, rate_per_s=4, duration_s=30, max_error_rate=0.05)
    version = empty.register(slowed(served.tree, tmp_path, column=COLUMN, share=0.2, delay_ms=450))
    ended = empty.decided("deploy-staging", "--version", version)
    # On a machine that is busier still most requests get no answer, of which the latency says nothing.
    for _ in range(2):
        if "FAIL: p95=" in ended.stdout:
            break
        ended = empty.decided("deploy-staging", "--version", version)
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert re.search(r"^FAIL: p95=(\d+\.\d{4}|inf) ms > 400 ms", ended.stdout, re.MULTILINE)
    assert empty.health("staging")["status"] == "no release"


def test_a_version_slower_in_two_requests_of_a_hundred_is_stopped_by_the_comparison(
    served: Installation, tmp_path: Path
) -> None:
    staging = served.health("staging")
    served.apply_policy(quantiles=LIMITS, comparison=COMPARISON)
    version = served.register(slowed(served.tree, tmp_path, column=COLUMN, share=0.02, delay_ms=90))
    ended = served.decided("promote", "--version", version)
    # What a machine that is too busy to serve at all has made slow says nothing of the comparison.
    for _ in range(3):
        if "FAIL: p95=" not in ended.stdout:
            break
        ended = served.decided("deploy-staging", "--version", version)
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert re.search(r"^FAIL: p99_ratio=\d+\.\d{4} > ", ended.stdout, re.MULTILINE)
    assert "p99=" not in ended.stdout
    assert served.health("staging") == staging
    assert b"p99_ratio" in served.evidence(version, "slo.html")
    found = json.loads(served.evidence(version, "slo.json"))
    assert len(found["blocks"]) in (COMPARISON["blocks"], 2 * int(COMPARISON["blocks"]))


def test_the_same_version_once_more_is_not_stopped_by_the_comparison(served: Installation) -> None:
    served.apply_policy(quantiles=LIMITS, comparison=COMPARISON)
    version = served.register()
    ended = served.slipway("deploy-staging", "--version", version)
    served.apply_policy()
    # A busy machine may keep it from deciding; a no it never says.
    assert ended.returncode in (0, 4), ended.stdout + ended.stderr
    if ended.returncode == 0:
        assert re.search(r"PASS p99_ratio <= \d", ended.stderr), ended.stderr
    assert "FAIL: p99_ratio" not in ended.stdout + ended.stderr
