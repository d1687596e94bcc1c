"""The SLO judge by itself, over simulated looks of a known law; no clock, no network."""

from typing import Any

import numpy as np
import pytest

from loadtests.plan import Limit, Plan, min_requests
from loadtests.quantiles import clopper_pearson, design_effect, max_slow
from loadtests.samples import Window
from loadtests.simulation import CONTROL, bursts, look_of, plan_of
from loadtests.slo import Judgement, judge
from loadtests.stall import longest_stall
from loadtests.verdict import Check, Verdict

SEEDS = 100


def judged(latency_ms: Any, plan: Plan | None = None, **changes: Any) -> Judgement:
    return judge(plan or plan_of(), [look_of(latency_ms, **changes)], CONTROL)


def check_of(judgement: Judgement, name: str) -> Check:
    return next(check for check in judgement.checks if check.name == name)


def latencies(n: int, slow: int, *, slow_ms: float = 150, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float64]]:
    values = np.full(n, 10.0)
    values[np.random.default_rng(seed).permutation(n)[:slow]] = slow_ms
    return values


@pytest.mark.parametrize(
    ("n", "p95", "p99"), [(1_000, 38, 4), (5_000, 224, 38), (10_000, 463, 83), (30_000, 1_437, 271)]
)
def test_limit_on_slow_requests_is_the_exact_binomial_one(n: int, p95: int, p99: int) -> None:
    assert max_slow(n, 0.95, 0.05) == p95
    assert max_slow(n, 0.99, 0.05) == p99


@pytest.mark.parametrize(("share", "one", "two"), [(0.05, 59, 72), (0.01, 299, 368), (0.001, 2_995, 3_688)])
def test_smallest_sample_that_can_pass(share: float, one: int, two: int) -> None:
    for alpha, smallest in ((0.05, one), (0.025, two)):
        assert min_requests(share, alpha) == smallest
        assert max_slow(smallest, 1 - share, alpha) == 0
        assert max_slow(smallest - 1, 1 - share, alpha) == -1


@pytest.mark.parametrize(
    ("n", "shares"),
    [
        (1_000, (0.44, 0.10, 0.03, 0)),
        (5_000, (0.99, 0.42, 0.05, 0)),
        (10_000, (1, 0.66, 0.05, 0)),
        (30_000, (1, 0.98, 0.05, 0)),
    ],
)
def test_independent_slow_requests_pass_as_often_as_promised(n: int, shares: tuple[float, ...]) -> None:
    limit = max_slow(n, 0.99, 0.05)
    rng = np.random.default_rng(7)
    for share, promised in zip((0.005, 0.008, 0.010, 0.015), shares, strict=True):
        passed = np.mean(rng.binomial(n, share, 20_000) <= limit)
        assert passed == pytest.approx(promised, abs=0.015)


@pytest.mark.parametrize("burst", [5, 20, 50])
@pytest.mark.parametrize(("share", "allowed"), [(0.02, 0.10), (0.03, 0.05)])
def test_clustered_slow_requests_seldom_pass_wrongly(burst: int, share: float, allowed: float) -> None:
    n, rng = 12_000, np.random.default_rng(burst)
    wrong = 0
    for _ in range(SEEDS):
        slow = bursts(n, share, burst, rng)
        wrong += judged(np.where(slow, 150.0, 10.0)).verdict is Verdict.PASSED
    assert wrong / SEEDS <= allowed


def test_design_effect_is_one_without_slow_requests_and_grows_with_bursts() -> None:
    assert design_effect(np.zeros(12)) == 1
    assert design_effect(np.full(12, 4.0)) == 1
    assert design_effect(np.array([0.0] * 11 + [24])) == pytest.approx(24)


def test_slow_requests_at_the_limit_pass_and_one_more_is_inconclusive() -> None:
    spread = np.full(10_000, 10.0)
    spread[np.linspace(0, 9_999, 83).astype(int)] = 150
    passed = "PASS p99 <= 100 ms: 83 of 10,000 slow, limit 83 (only look)"
    assert check_of(judged(spread), "p99").message == passed
    spread[1] = 150
    message = check_of(judged(spread), "p99").message
    assert message.startswith("INCONCLUSIVE: p99 <= 100 ms: 84 of 10,000 slow, limit 83, fails from 118")


def test_latency_equal_to_the_limit_is_not_slow() -> None:
    assert judged(np.full(12_000, 100.0)).verdict is Verdict.PASSED


def test_a_few_ms_above_the_limit_are_not_rounded_into_a_pass() -> None:
    judgement = judged(np.full(12_000, 104.0))
    assert judgement.verdict is Verdict.FAILED
    assert check_of(judgement, "p99").message.startswith("FAIL: p99=104.0000 ms > 100 ms (12,000 of 12,000 slow")


def test_a_limit_that_is_only_shown_does_not_decide() -> None:
    limits = (Limit(0.95, 100, judged=True), Limit(0.99, 100, judged=False))
    judgement = judged(latencies(12_000, 300), plan_of(limits=limits))
    assert check_of(judgement, "p99").verdict is Verdict.FAILED
    assert judgement.verdict is Verdict.PASSED


def test_two_planned_looks_are_judged_at_half_alpha_each_and_named() -> None:
    plan = plan_of(extension=True)
    assert plan.alpha == 0.025
    first = look_of(latencies(12_000, 110))
    undecided = judge(plan, [first], CONTROL)
    assert undecided.verdict is Verdict.INCONCLUSIVE
    assert undecided.extendable
    assert "(first of two looks)" in check_of(undecided, "p99").message
    decided = judge(plan, [first, look_of(latencies(12_000, 10))], CONTROL)
    assert decided.verdict is Verdict.PASSED
    assert "120 of 24,000 slow" in check_of(decided, "p99").message
    assert "(second of two looks)" in check_of(decided, "p99").message


def test_independent_slow_requests_at_the_limit_are_seldom_judged_wrongly() -> None:
    rng = np.random.default_rng(3)
    found = [judged(np.where(rng.random(12_000) < 0.01, 150.0, 10.0)).verdict for _ in range(5 * SEEDS)]
    assert found.count(Verdict.PASSED) / len(found) <= 0.06
    assert found.count(Verdict.FAILED) / len(found) <= 0.06


def test_a_few_percent_of_slower_requests_fail_almost_always() -> None:
    rng = np.random.default_rng(4)
    base = 90.0
    failed = sum(
        judged(np.where(rng.random(12_000) < 0.02, base + 20, base)).verdict is Verdict.FAILED for _ in range(200)
    )
    assert failed / 200 >= 0.95


def test_a_thousandth_is_judged_where_there_are_requests_enough() -> None:
    plan = plan_of(limits=(Limit(0.999, 100, judged=True),))
    spread = np.full(12_000, 10.0)
    spread[500::2_400] = 150
    passed = "PASS p99.9 <= 100 ms: 5 of 12,000 slow, limit 6 (only look)"
    assert check_of(judged(spread, plan), "p99.9").message == passed
    assert judged(latencies(12_000, 9), plan).verdict is Verdict.INCONCLUSIVE
    few = judged(np.full(2_994, 10.0), plan, duration_s=15)
    assert check_of(few, "p99.9").verdict is Verdict.INCONCLUSIVE
    assert check_of(few, "sample_size").message == "INCONCLUSIVE: sample_size: 2,994 requests, needed 2,995"
    assert judged(np.full(2_995, 10.0), plan, duration_s=15).verdict is Verdict.PASSED


def test_fewer_than_ten_windows_prove_nothing() -> None:
    judgement = judged(np.full(9_000, 10.0), duration_s=9)
    assert check_of(judgement, "p99").verdict is Verdict.INCONCLUSIVE
    assert judged(np.full(9_000, 10.0), duration_s=10).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("observed_ms", "verdict", "message"),
    [
        (400.0, Verdict.PASSED, "PASS first_request <= 500 ms: 400.0 ms, the first one after the deploy"),
        (500.0, Verdict.PASSED, "PASS first_request <= 500 ms: 500.0 ms, the first one after the deploy"),
        (504.0, Verdict.FAILED, "FAIL: first_request=504.0000 ms > 500 ms (the first one after the deploy)"),
        (np.inf, Verdict.FAILED, "FAIL: first_request=inf ms > 500 ms (the first one after the deploy)"),
        (np.nan, Verdict.INCONCLUSIVE, "INCONCLUSIVE: first_request <= 500 ms: the first request was not measured"),
        (None, Verdict.INCONCLUSIVE, "INCONCLUSIVE: first_request <= 500 ms: the first request was not measured"),
    ],
)
def test_the_first_request_has_a_limit_of_its_own(observed_ms: float | None, verdict: Verdict, message: str) -> None:
    looks = [look_of(np.full(12_000, 10.0))]
    judgement = judge(plan_of(first_request_ms=500), looks, CONTROL, first_request_ms=observed_ms)
    assert judgement.verdict is verdict
    assert not judgement.extendable
    assert check_of(judgement, "first_request").message == message


def test_the_first_request_is_not_judged_without_a_limit() -> None:
    judgement = judge(plan_of(), [look_of(np.full(12_000, 10.0))], CONTROL, first_request_ms=9_000)
    assert judgement.verdict is Verdict.PASSED
    assert "first_request" not in {check.name for check in judgement.checks}


def test_a_freeze_fails_by_the_stall_rule() -> None:
    look = look_of(np.full(12_000, 10.0))
    due_s = look.intended_s - 1000
    frozen = (due_s >= 20) & (due_s < 23)
    latency_ms = np.where(frozen, (23 - due_s) * 1000, 10.0)
    judgement = judged(latency_ms)
    assert judgement.verdict is Verdict.FAILED
    assert check_of(judgement, "stall").message.startswith("FAIL: stall=")
    assert check_of(judgement, "stall").observed == pytest.approx(3, abs=0.05)


def test_a_target_that_stops_answering_for_good_fails_by_the_stall_rule() -> None:
    latency_ms = np.full(12_000, 10.0)
    latency_ms[11_000:] = np.inf
    judgement = judged(latency_ms)
    assert judgement.verdict is Verdict.FAILED
    assert check_of(judgement, "stall").observed == pytest.approx(5, abs=0.05)


def test_a_pause_in_which_nothing_was_due_is_no_stall() -> None:
    look = look_of(np.full(20, 10.0), duration_s=60)
    assert longest_stall([look]).length_s == pytest.approx(0.01, abs=1e-6)


def test_a_frozen_generator_is_not_the_stall_of_the_target() -> None:
    look = look_of(np.full(12_000, 10.0))
    due_s = look.intended_s - 1000
    late_s = np.where((due_s >= 20) & (due_s < 23), 23 - due_s, 0)
    judgement = judged(10 + late_s * 1000, sent_s=look.intended_s + late_s)
    assert check_of(judgement, "stall").verdict is Verdict.INCONCLUSIVE
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert not judgement.extendable


def test_instant_errors_fail_and_never_flatter_the_quantile() -> None:
    n = 12_000
    everything = judged(np.full(n, 1.0), failed=np.full(n, True), served={}, errors={"status 500": n})
    assert everything.verdict is Verdict.FAILED
    message = "FAIL: errors=1.0000 > 0.05 (12,000 of 12,000 failed: 12,000 status 500"
    assert check_of(everything, "errors").message.startswith(message)
    assert check_of(everything, "p99").verdict is Verdict.INCONCLUSIVE
    quick = np.concatenate((latencies(10_000, 200), np.full(2_000, 1.0)))
    failed = np.arange(n) >= 10_000
    mixed = judged(quick, failed=failed, errors={"status 500": 2_000})
    assert "200 of 10,000 slow" in check_of(mixed, "p99").message


def test_a_timeout_is_slow_and_an_error() -> None:
    latency_ms = latencies(12_000, 1_200, slow_ms=np.inf)
    judgement = judged(latency_ms, errors={"timeout": 1_200})
    assert check_of(judgement, "p99").message.startswith("FAIL: p99=inf ms > 100 ms (1,200 of 12,000 slow")
    assert check_of(judgement, "errors").verdict is Verdict.FAILED


def test_error_budget_needs_proof() -> None:
    assert clopper_pearson(0, 2_995, 0.05)[1] <= 0.001 < clopper_pearson(0, 2_994, 0.05)[1]
    n = 12_000
    for count, verdict in ((0, Verdict.PASSED), (12, Verdict.INCONCLUSIVE), (60, Verdict.FAILED)):
        judgement = judged(np.full(n, 1.0), plan_of(max_error_rate=0.001), failed=np.arange(n) < count)
        assert judgement.verdict is verdict


@pytest.mark.parametrize(
    "changes",
    [
        {"latency_ms": []},
        {"latency_ms": [np.nan] * 12_000},
        {"latency_ms": [10.0] * 11_999 + [np.nan]},
        {"latency_ms": [10.0] * 11_999 + [-1.0]},
        {"latency_ms": [10.0] * 12_000, "served": {"5": 1, "6": 11_999}},
        {"latency_ms": [10.0] * 12_000, "served": {"": 12_000}},
        {"latency_ms": [10.0] * 12_000, "window": Window(1000, 1060, 12_000, 0.8)},
        {"latency_ms": [10.0] * 12_000, "window": Window(1000, 1060, 12_200, 0.1)},
        {"latency_ms": [10.0] * 12_000, "sent_s": 1000.02 + np.arange(12_000) * 0.005},
        {"latency_ms": [10.0] * 200},
    ],
    ids=["empty", "nan", "one nan", "negative", "mixed", "unnamed", "busy", "unsent", "late", "few"],
)
def test_a_run_that_can_not_be_trusted_is_inconclusive_and_not_extended(changes: dict[str, Any]) -> None:
    judgement = judged(**changes)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert not judgement.extendable


def test_a_slow_control_run_makes_the_run_inconclusive() -> None:
    control = look_of(np.full(400, 20.0), duration_s=2)
    assert judge(plan_of(), [look_of(np.full(12_000, 10.0))], control).verdict is Verdict.INCONCLUSIVE


def test_interval_of_the_quantile_covers_it() -> None:
    rng = np.random.default_rng(5)
    true_ms = -20 * np.log(0.01)
    covered = 0
    for _ in range(100):
        low, high = check_of(judged(rng.exponential(20, 12_000)), "p99").interval or (0, 0)
        covered += low <= true_ms <= high
    assert covered >= 80


@pytest.mark.timeout(60)
def test_a_million_samples_are_judged_without_a_loop_over_them() -> None:
    rng = np.random.default_rng(6)
    look = look_of(rng.exponential(10, 1_000_000), duration_s=600)
    limits = (Limit(0.95, 100, judged=True), Limit(0.99, 100, judged=True))
    assert judge(plan_of(limits=limits), [look], CONTROL).verdict is Verdict.PASSED
