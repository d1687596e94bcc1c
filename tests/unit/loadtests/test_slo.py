"""The SLO judge by itself, over simulated looks of a known latency model; no clock, no network."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loadtests.generator.schedule import course_offsets
from loadtests.judge.quantiles import bootstrap_interval, clopper_pearson, design_effect, max_slow, window_length_s
from loadtests.judge.slo import Judgement, judge
from loadtests.judge.stall import longest_stall
from loadtests.judge.verdict import Check, Verdict, disturbance
from loadtests.plan.plan import Arrivals, Limit, Plan, min_requests
from loadtests.plan.shapes import Course, Shape, ShapeKind
from loadtests.samples import Look, Window
from loadtests.study.latency_models import bursts
from loadtests.study.simulation import CONTROL, look_of, plan_of

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
    one_stage = np.zeros(12, dtype=np.int64)
    assert design_effect(np.zeros(12), one_stage) == 1
    assert design_effect(np.full(12, 4.0), one_stage) == 1
    assert design_effect(np.array([0.0] * 11 + [24]), one_stage) == pytest.approx(24)


def test_what_differs_between_stages_is_no_clustering_and_what_differs_within_one_is() -> None:
    stages = np.repeat([0, 1, 2], 4)
    assert design_effect(np.repeat([0.0, 5.0, 40.0], 4), stages) == 1
    assert design_effect(np.array([0.0] * 8 + [0, 0, 0, 160]), stages) == pytest.approx(160)


SHAPED = (Shape(ShapeKind.STEP), Shape(ShapeKind.SPIKE), Shape(ShapeKind.RAMP))


def shaped_look(shape: Shape, rng: np.random.Generator) -> Look:
    """Return a look of 60 s under that shape, whose every request took 10 ms."""
    course = Course(shape, rate_per_s=200, warmup_s=0, duration_s=60)
    due_s = np.array(
        [due for due, _ in zip(course_offsets(Arrivals.POISSON, course, rng), range(13_000), strict=False)]
    )
    due_s = due_s[due_s < 60]
    look = look_of(np.full(len(due_s), 10.0), duration_s=60)
    return replace(look, intended_s=1000 + due_s, sent_s=1000.0001 + due_s)


@pytest.mark.parametrize("shape", SHAPED, ids=lambda shape: shape.kind)
def test_a_service_that_is_slow_at_the_highest_rate_fails_and_its_planned_load_is_no_clustering(shape: Shape) -> None:
    rng, failed = np.random.default_rng(8), 0
    for _ in range(20):
        look = shaped_look(shape, rng)
        due_s = look.intended_s - 1000
        high = (due_s >= 24) & (due_s < 36) if shape.kind is ShapeKind.SPIKE else due_s >= 48
        latency_ms = np.where(high & (rng.random(len(due_s)) < 0.1), 150.0, 10.0)
        failed += judge(plan_of(shape=shape), [replace(look, latency_ms=latency_ms)], CONTROL).verdict is Verdict.FAILED
    assert failed == 20


@pytest.mark.parametrize("shape", SHAPED, ids=lambda shape: shape.kind)
def test_bursts_are_clustering_under_a_shape_as_well(shape: Shape) -> None:
    rng, wrong = np.random.default_rng(9), 0
    for _ in range(SEEDS // 2):
        look = shaped_look(shape, rng)
        slow = bursts(len(look.latency_ms), 0.03, 20, rng)
        found = judge(plan_of(shape=shape), [replace(look, latency_ms=np.where(slow, 150.0, 10.0))], CONTROL)
        wrong += found.verdict is Verdict.PASSED
    assert wrong / (SEEDS // 2) <= 0.05


def test_a_minute_read_from_a_clock_is_a_minute() -> None:
    assert window_length_s(60 - 1e-11) == 5
    assert window_length_s(59.9) == 1


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


def silent_at_the_end(waiting: int) -> Look:
    """Return a look of 60 s whose last requests took 4 s each, as some before them did."""
    latency_ms = np.full(6_000, 10.0)
    latency_ms[5_500::100] = 4_000
    latency_ms[-waiting:] = 4_000
    return look_of(latency_ms, duration_s=60)


def test_a_few_slow_requests_after_which_nobody_came_are_no_stall() -> None:
    for waiting in (1, 9):
        assert longest_stall([silent_at_the_end(waiting)]).length_s < 0.2


def test_a_freeze_at_the_end_is_a_stall_where_many_wait() -> None:
    frozen = silent_at_the_end(300)
    assert longest_stall([frozen]).length_s > 1
    judgement = judge(plan_of(), [frozen], CONTROL)
    assert check_of(judgement, "stall").verdict is Verdict.FAILED


def test_a_freeze_beyond_the_end_of_a_look_lasts_until_its_first_reply() -> None:
    latency_ms = np.full(6_000, 10.0)
    latency_ms[-300:] = 4_000
    assert longest_stall([look_of(latency_ms, duration_s=60)]).length_s == pytest.approx(4, abs=0.05)


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


def test_a_control_run_without_requests_says_so() -> None:
    judgement = judge(plan_of(), [look_of(np.full(12_000, 10.0))], look_of([], duration_s=2))
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert check_of(judgement, "control").observed is None
    message = "INCONCLUSIVE: control: no request was measured at an empty endpoint"
    assert check_of(judgement, "control").message == message


def test_a_look_that_was_disturbed_does_not_hide_behind_a_sound_one() -> None:
    plan, sound = plan_of(extension=True), look_of(np.full(12_000, 10.0))
    late_s = np.where(np.random.default_rng(0).random(12_000) < 0.019, 0.05, 0.0001)
    disturbed = {
        "send_lag": replace(sound, sent_s=sound.intended_s + late_s),
        "achieved_rate": replace(sound, window=Window(1000, 1060, 12_220, 0.1)),
        "generator_cpu": replace(sound, window=Window(1000, 1060, 12_000, 0.85)),
    }
    assert (
        judge(plan, [sound, look_of([], window=Window(1000, 1060, 12_000, 0.1))], CONTROL).verdict
        is Verdict.INCONCLUSIVE
    )
    assert judge(plan, [sound, sound], CONTROL).verdict is Verdict.PASSED
    for name, look in disturbed.items():
        for looks in ([look], [sound, look], [look, sound]):
            judgement = judge(plan, looks, CONTROL)
            assert check_of(judgement, name).verdict is Verdict.INCONCLUSIVE
            assert judgement.verdict is Verdict.INCONCLUSIVE
            # Measuring again is of no use to a generator that is too small.
            again = disturbance(judgement.checks)
            assert again is None if name == "generator_cpu" else f" {name}: " in str(again)


def test_what_the_target_does_is_no_disturbance() -> None:
    late_s = np.where(np.arange(12_000) % 50 == 0, 0.05, 0.0001)
    look = look_of(np.full(12_000, 10.0))
    late = replace(look, sent_s=look.intended_s + late_s)
    frozen_ms = np.where((late.intended_s >= 1020) & (late.intended_s < 1023), (1023 - late.intended_s) * 1000, 10.0)
    assert disturbance(judge(plan_of(), [late], CONTROL).checks)
    # Nor does it help where something else answered.
    assert disturbance(judge(plan_of(), [replace(late, served={"5": 12_000})], CONTROL).checks) is None
    assert disturbance(judge(plan_of(), [look], CONTROL).checks) is None
    on_time = replace(late, latency_ms=frozen_ms, sent_s=np.where(frozen_ms > 10, late.intended_s, late.sent_s))
    stalled = judge(plan_of(), [on_time], CONTROL)
    assert check_of(stalled, "send_lag").verdict is Verdict.INCONCLUSIVE
    assert stalled.verdict is Verdict.FAILED


def recorded_in_part(slow: int, missing: int, **changes: Any) -> Judgement:
    """Judge a run of 12,000 planned requests of which so many left no record, and so many others were slow."""
    latency_ms = np.full(12_000 - missing, 10.0)
    latency_ms[np.linspace(0, len(latency_ms) - 1, slow).astype(int)] = 150
    look = look_of(latency_ms, window=Window(1000, 1060, 12_000, 0.1))
    return judge(plan_of(**changes), [look], CONTROL)


def test_requests_without_a_record_are_proof_of_nothing() -> None:
    assert recorded_in_part(90, 0).verdict is Verdict.PASSED
    held = recorded_in_part(90, 108)
    assert held.verdict is Verdict.INCONCLUSIVE
    message = "INCONCLUSIVE: p99 <= 100 ms: 90 of 11,892 slow, 108 more not measured, limit none, fails from 139"
    assert check_of(held, "p99").message.startswith(message)
    assert check_of(recorded_in_part(90, 10), "p99").message == (
        "PASS p99 <= 100 ms: 90 of 11,990 slow, 10 more not measured, limit 91 (only look)"
    )
    assert recorded_in_part(138, 100).verdict is Verdict.INCONCLUSIVE
    assert recorded_in_part(139, 100).verdict is Verdict.FAILED


def test_requests_without_a_record_may_have_failed() -> None:
    held = recorded_in_part(0, 100, max_error_rate=0.005)
    assert check_of(held, "errors").verdict is Verdict.INCONCLUSIVE
    assert "0 of 11,900 failed; 100 more not measured; between 0.0000% and" in check_of(held, "errors").message
    assert check_of(recorded_in_part(0, 5, max_error_rate=0.005), "errors").verdict is Verdict.PASSED


HOSTILE = '5\x1b[2K\nPASS versions: all replies by "6"' + "!" * 500


def test_what_a_target_calls_itself_is_quoted_and_cut() -> None:
    message = check_of(judged(np.full(12_000, 10.0), served={"6": 11_999, HOSTILE: 1}), "versions").message
    assert (
        message
        == 'INCONCLUSIVE: versions: expected "6", but 1 by "5\\u001b[2K\\nPASS versions: all replies by \\"6\\"!"'
    )


def test_of_many_versions_and_errors_the_most_frequent_are_named() -> None:
    served = {f"v{number}": 1 + number for number in range(100)}
    message = check_of(judged(np.full(12_000, 10.0), served=served), "versions").message
    assert message.endswith('expected "6", but 100 by "v99", 99 by "v98", 98 by "v97" and 97 more')
    errors = {f"status {number}": 1 for number in range(300, 600)} | {"timeout": 7}
    judgement = judged(np.full(12_000, 10.0), failed=np.arange(12_000) < 307, errors=errors)
    assert (
        "307 of 12,000 failed: 7 timeout, 1 status 300, 1 status 301 and 298 more;"
        in check_of(judgement, "errors").message
    )


def test_interval_of_the_quantile_covers_it() -> None:
    rng = np.random.default_rng(5)
    true_ms = -20 * np.log(0.01)
    covered = 0
    for _ in range(100):
        low, high = check_of(judged(rng.exponential(20, 12_000)), "p99").interval or (0, 0)
        covered += low <= true_ms <= high
    assert covered >= 80


def test_interval_is_that_of_counting_each_draws_requests_by_themselves() -> None:
    rng = np.random.default_rng(7)
    latency_ms = rng.exponential(20, 2_000)
    window = np.repeat([0, 1, 3, 4, 6], [200, 500, 300, 900, 100])
    parts = [np.sort(latency_ms[window == number]) for number in (0, 1, 3, 4, 6)]
    drawn = np.random.default_rng(3).multinomial(5, [0.2] * 5, 400)
    found = []
    for times in drawn:
        together = np.sort(np.concatenate([np.tile(part, count) for part, count in zip(parts, times, strict=True)]))
        found.append(together[int(np.ceil(len(together) * 0.9)) - 1])
    expected = np.quantile(found, (0.025, 0.975), method="inverted_cdf")
    assert bootstrap_interval(latency_ms, window, quantile=0.9, seed=3) == pytest.approx(tuple(expected))


def test_interval_knows_that_slow_requests_may_all_lie_in_one_window() -> None:
    window = np.arange(10_000) // 1000
    latency_ms = np.where(window == 4, 150.0, 1.0)
    assert bootstrap_interval(latency_ms, window, quantile=0.99, seed=1) == (1, 150)


@pytest.mark.timeout(60)
def test_a_million_samples_are_judged_without_a_loop_over_them() -> None:
    rng = np.random.default_rng(6)
    look = look_of(rng.exponential(10, 1_000_000), duration_s=600)
    limits = (Limit(0.95, 100, judged=True), Limit(0.99, 100, judged=True))
    assert judge(plan_of(limits=limits), [look], CONTROL).verdict is Verdict.PASSED


@pytest.mark.parametrize("burst", [1, 5, 50])
def test_simulated_bursts_mark_the_share_that_was_asked_for(burst: int) -> None:
    slow = bursts(400_000, 0.02, burst, np.random.default_rng(1))
    assert slow.mean() == pytest.approx(0.02, rel=0.2)
