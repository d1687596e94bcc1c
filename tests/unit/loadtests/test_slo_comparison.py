"""The comparison with the champion by itself, over simulated services of a known latency model."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from loadtests.judge.comparison import Block, Evidence, Rule, compare_arms, extendable, judge_comparison
from loadtests.judge.slo import judge, with_comparison
from loadtests.judge.verdict import Verdict, disturbance
from loadtests.samples import Look, Window
from loadtests.study.latency_models import CHANGES, SERVICES, Change, Service
from loadtests.study.simulation import CONTROL, blocks_of, look_of, plan_of

RUNS = 200
PLAN = plan_of()


def blocks_like(candidate_ms: Any, champion_ms: Any, count: int = 100) -> list[Block]:
    """Return blocks that all hold the same 200 latencies of each arm."""
    return [
        Block(
            look_of(np.broadcast_to(np.asarray(candidate_ms, dtype=float), 200), duration_s=1),
            look_of(np.broadcast_to(np.asarray(champion_ms, dtype=float), 200), duration_s=1, version="5"),
        )
        for _ in range(count)
    ]


def verdicts(service: str | Service, change: str | Change, runs: int = RUNS) -> dict[Verdict, float]:
    rng = np.random.default_rng(11)
    latency_model = SERVICES[service] if isinstance(service, str) else service
    changed = CHANGES[change] if isinstance(change, str) else change
    found = [judge_comparison(PLAN, blocks_of(latency_model, changed, PLAN, rng)).verdict for _ in range(runs)]
    return {verdict: found.count(verdict) / runs for verdict in Verdict}


@pytest.mark.parametrize("service", ["steady", "pausing"])
def test_a_version_against_itself_passes_nine_times_of_ten_and_is_hardly_ever_stopped(service: str) -> None:
    found = verdicts(service, "same")
    assert found[Verdict.PASSED] >= 0.9
    assert found[Verdict.FAILED] <= 0.05


@pytest.mark.parametrize("service", SERVICES)
def test_a_version_slower_by_20_ms_in_2_percent_is_stopped(service: str) -> None:
    assert verdicts(service, "slower", runs=40)[Verdict.FAILED] >= 0.95


def test_a_version_slower_by_the_margin_seldom_passes() -> None:
    slow = Service(40.0, 0.5, 0.1, 0.0, 0.0)
    rng, passed = np.random.default_rng(12), 0
    for _ in range(RUNS // 2):
        blocks = blocks_of(slow, Change(), PLAN, rng)
        slower = [replace(b, candidate=replace(b.candidate, latency_ms=b.candidate.latency_ms * 1.1)) for b in blocks]
        passed += judge_comparison(PLAN, slower).verdict is Verdict.PASSED
    assert passed / (RUNS // 2) <= 0.1


def test_a_version_slow_in_few_blocks_is_held_and_not_passed() -> None:
    found = verdicts("steady", "pauses")
    assert found[Verdict.PASSED] <= 0.12
    assert found[Verdict.INCONCLUSIVE] >= 0.6


def test_twice_the_blocks_decide_where_one_look_could_not() -> None:
    plan = plan_of(extension=True)
    rng = np.random.default_rng(13)
    wide = Service(40.0, 0.9, 0.0, 0.0, 0.0)
    first, both = [], []
    for _ in range(20):
        blocks = blocks_of(wide, Change(), plan, rng) + blocks_of(wide, Change(), plan, rng)
        first.append(judge_comparison(plan, blocks[:100]))
        both.append(judge_comparison(plan, blocks))
    assert sum(check.verdict is Verdict.PASSED for check in both) > sum(c.verdict is Verdict.PASSED for c in first)
    assert all("first of two looks" in check.message for check in first)
    assert all("second of two looks" in check.message for check in both)
    assert all(extendable(check) for check in first if check.verdict is Verdict.INCONCLUSIVE)


def test_a_no_says_how_much_slower_and_against_which_limit() -> None:
    check = judge_comparison(PLAN, blocks_like(13.12, 10.0))
    assert check.message == (
        "FAIL: p99_ratio=1.3120 > 1.1 (p99 of the candidate over the champion's, 1.3120 to 1.3120; "
        "13.12 ms against 10.00 ms over all 100 blocks; only look)"
    )
    assert (check.name, check.limit, check.judged) == ("p99_ratio", 1.1, True)
    assert check.observed == pytest.approx(1.312)
    assert check.interval == pytest.approx((1.312, 1.312))


def test_a_yes_says_the_ratio_and_its_bounds() -> None:
    message = judge_comparison(PLAN, blocks_like(10.2, 10.0)).message
    assert message.startswith("PASS p99_ratio <= 1.1: 1.0200 (p99 of the candidate over the champion's, 1.0200 to")


@pytest.mark.parametrize(
    ("ratio", "low", "high", "verdict"),
    [
        (1.0, 0.95, 1.09, Verdict.PASSED),
        (1.0, 0.95, 1.1, Verdict.INCONCLUSIVE),
        (1.06, 1.01, 1.09, Verdict.PASSED),
        (1.06, 1.01, 1.11, Verdict.FAILED),
        (1.05, 1.01, 1.11, Verdict.INCONCLUSIVE),
        (1.3, 1.0, 1.6, Verdict.INCONCLUSIVE),
        (1.3, 1.01, 1.6, Verdict.FAILED),
        (0.5, 0.4, 0.6, Verdict.PASSED),
    ],
)
def test_bounds_decide_and_a_ratio_alone_does_not(ratio: float, low: float, high: float, verdict: Verdict) -> None:
    rule = Rule.of(PLAN.comparison or pytest.fail(), typical_ms=1000)
    evidence = Evidence(ratio, low, high, candidate_ms=1000, champion_ms=1000, typical_ms=1000)
    assert rule.judge(evidence) is verdict


def test_the_bounds_are_those_of_trimming_each_draw_of_whole_blocks() -> None:
    rng = np.random.default_rng(17)
    arms = [[rng.exponential(scale, 50 + number) for number in range(20)] for scale in (10, 12)]
    candidate, champion = (np.log([np.sort(block)[int(np.ceil(len(block) * 0.99)) - 1] for block in a]) for a in arms)
    logs = candidate - champion
    draws = np.random.default_rng(5).integers(20, size=(2000, 20))
    means = [np.sort(logs[drawn])[4:16].mean() for drawn in draws]
    widen = np.sqrt(20 / 19)
    shares = [stats.norm.cdf(widen * stats.t.ppf(share, 19)) for share in (0.05 * 0.2, 0.95)]
    found = compare_arms(*arms, alpha=0.05, seed=5)
    assert (found.low, found.high) == pytest.approx(tuple(np.exp(np.quantile(means, shares))))
    assert found.ratio == pytest.approx(np.exp(np.sort(logs)[4:16].mean()))
    assert found.typical_ms == pytest.approx(np.exp(np.sort(champion)[4:16].mean()))


def test_a_difference_below_the_tolerance_is_none() -> None:
    assert judge_comparison(PLAN, blocks_like(2.4, 2.0)).verdict is Verdict.PASSED
    stopped = judge_comparison(PLAN, blocks_like(2.6, 2.0))
    assert stopped.verdict is Verdict.FAILED
    assert stopped.message.startswith("FAIL: p99_ratio=1.3000 > 1.25 (")
    strict = plan_of(comparison=replace(PLAN.comparison or pytest.fail(), tolerance_ms=0.0))
    assert judge_comparison(strict, blocks_like(2.4, 2.0)).verdict is Verdict.FAILED


def test_a_difference_below_the_tolerance_is_none_although_the_machine_paused() -> None:
    blocks = [*blocks_like(2.4, 2.0, 97), *blocks_like(100, 100, 3)]
    assert judge_comparison(PLAN, blocks).verdict is Verdict.PASSED
    slower = [*blocks_like(2.6, 2.0, 97), *blocks_like(100, 100, 3)]
    assert judge_comparison(PLAN, slower).message.startswith("FAIL: p99_ratio=1.3000 > 1.25 (")


def sent_late(look: Look, longest_ms: float, rng: np.random.Generator, share: float = 0.03) -> Look:
    """Return the look as a generator measures it that sends a share of the requests late, by up to so much."""
    lag_ms = np.where(rng.random(200) < share, rng.uniform(0, longest_ms, 200), 0.1)
    return replace(look, sent_s=look.intended_s + lag_ms / 1000, latency_ms=look.latency_ms + lag_ms)


def late_blocks(arms: tuple[str, ...], longest_ms: float, share: float = 0.03) -> list[Block]:
    """Return blocks of a candidate that is 2 ms slower in 2 % of its requests; the arms named were sent late."""
    rng = np.random.default_rng(14)
    blocks = blocks_of(Service(1.0, 0.3, 0.0, 0.0, 0.0), Change(slower_ms=2, slower_share=0.02), PLAN, rng)
    late = {arm: [sent_late(getattr(block, arm), longest_ms, rng, share) for block in blocks] for arm in arms}
    return [
        replace(block, **{arm: looks[number] for arm, looks in late.items()}) for number, block in enumerate(blocks)
    ]


@pytest.mark.parametrize("arms", [("candidate", "champion"), ("candidate",), ("champion",)])
def test_a_late_generator_hides_no_slower_version(arms: tuple[str, ...]) -> None:
    assert judge_comparison(PLAN, late_blocks((), 0)).verdict is Verdict.FAILED
    hidden = judge_comparison(PLAN, late_blocks(arms, 6.5))
    assert hidden.message.startswith(f"INCONCLUSIVE: p99_ratio: the {arms[0]}: send_lag: p99 send lag 4.")
    assert hidden.message.endswith("allowed is less than 0.5 ms")
    assert disturbance([hidden]) == hidden.message
    assert not extendable(hidden)


def test_an_ordinary_generator_is_early_enough_to_tell() -> None:
    assert judge_comparison(PLAN, late_blocks(("candidate", "champion"), 0.7)).verdict is Verdict.FAILED
    same = [replace(block, candidate=replace(block.champion, served={"6": 200})) for block in late_blocks((), 0)]
    rng = np.random.default_rng(15)
    late = [Block(sent_late(b.candidate, 0.7, rng), sent_late(b.champion, 0.7, rng)) for b in same]
    assert judge_comparison(PLAN, late).verdict is Verdict.PASSED


def test_a_slower_champion_leaves_the_generator_more_time() -> None:
    def lagging(lag_ms: float) -> str:
        blocks = blocks_like(44.0, 44.0)
        late = [replace(b, champion=replace(b.champion, sent_s=b.champion.intended_s + lag_ms / 1000)) for b in blocks]
        return judge_comparison(PLAN, late).message

    # A tenth more than 40 ms is what the margin allows, and 44 ms as measured may hold as much.
    assert lagging(3.9).startswith("PASS")
    assert lagging(4.1).endswith("the champion: send_lag: p99 send lag 4.10 ms, allowed is less than 4 ms")


def test_a_disturbed_second_look_does_not_hide_behind_the_first() -> None:
    plan = plan_of(extension=True)
    late = blocks_like(2.0, 2.0)
    rng = np.random.default_rng(16)
    late = [replace(block, candidate=sent_late(block.candidate, 6.5, rng, share=0.015)) for block in late]
    assert judge_comparison(plan, SOUND + SOUND).verdict is Verdict.PASSED
    assert "the candidate: send_lag: " in judge_comparison(plan, SOUND + late).message


def test_requests_of_an_arm_without_a_record_may_have_been_its_slowest() -> None:
    def unrecorded(a_block: int, of: int) -> list[Block]:
        window = Window(1000, 1001, 200 + a_block, 0.1)
        few = [replace(block, candidate=replace(block.candidate, window=window)) for block in SOUND[:of]]
        return [*few, *SOUND[of:]]

    assert judge_comparison(PLAN, unrecorded(1, 20)).verdict is Verdict.PASSED
    message = "INCONCLUSIVE: p99_ratio: the candidate: 100 of 20,100 planned requests were not measured, which may"
    assert judge_comparison(PLAN, unrecorded(1, 100)).message.startswith(message)


def test_a_generator_that_is_busy_for_a_moment_is_not_held_back() -> None:
    busy = with_first(SOUND, "champion", window=Window(1000, 1001, 200, 0.9))
    assert judge_comparison(PLAN, busy).verdict is Verdict.PASSED


def with_first(blocks: list[Block], arm: str, **changes: Any) -> list[Block]:
    look = replace(getattr(blocks[0], arm), **changes)
    return [replace(blocks[0], **{arm: look}), *blocks[1:]]


def spoilt(value: float) -> Any:
    return np.array([*[2.0] * 199, value])


SOUND = blocks_like(2.0, 2.0)
EMPTY = look_of([], duration_s=1, served={})
TIMEOUTS = np.array([*[2.0] * 195, *[np.inf] * 5])


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "0 blocks, needed 100"),
        (SOUND[:99], "99 blocks, needed 100"),
        ([Block(EMPTY, EMPTY)] * 100, "the candidate: data: 0 requests, 0 impossible values"),
        ([Block(EMPTY, SOUND[0].champion), *SOUND[1:]], "the candidate: block 1 has 0 requests that count, needed 50"),
        ([*SOUND[1:], Block(SOUND[0].candidate, EMPTY)], "the champion: block 100 has 0 requests that count"),
        (with_first(SOUND, "candidate", latency_ms=spoilt(np.nan)), "the candidate: data: 20,000 requests, 1 imposs"),
        (with_first(SOUND, "champion", latency_ms=spoilt(-1)), "the champion: data: 20,000 requests, 1 imposs"),
        (
            with_first(SOUND, "candidate", served={"6": 150, "5": 50}),
            'the candidate: versions: expected "6", but 50 by "5"',
        ),
        (with_first(SOUND, "champion", served={"6": 200}), 'the champion: versions: expected "5", but 200 by "6"'),
        (
            [replace(b, champion=replace(b.champion, window=Window(1000, 1001, 200, 0.9))) for b in SOUND],
            "the champion: generator_cpu: generator used 90% of its core",
        ),
        (
            with_first(SOUND, "champion", window=Window(1000, 1001, 9000, 0.1)),
            "the champion: achieved_rate: 69.44% of the planned requests",
        ),
        (
            with_first(SOUND, "champion", latency_ms=TIMEOUTS, answered=np.isfinite(TIMEOUTS)),
            "block 1: the champion's p99 is a timeout",
        ),
        (blocks_like(0.0, 2.0), "a block has a p99 of 0 ms"),
    ],
)
def test_blocks_that_can_not_be_trusted_are_inconclusive_and_not_extended(blocks: list[Block], message: str) -> None:
    check = judge_comparison(PLAN, blocks)
    assert check.verdict is Verdict.INCONCLUSIVE
    assert check.message.startswith(f"INCONCLUSIVE: p99_ratio: {message}")
    assert check.interval is None
    assert not extendable(check)


def failing(look: Look, share: float, latency_ms: float) -> Look:
    failed = np.arange(200) < 200 * share
    latencies_ms = np.where(failed, latency_ms, look.latency_ms)
    return replace(look, failed=failed, answered=np.isfinite(latencies_ms), latency_ms=latencies_ms)


@pytest.mark.parametrize("arm", ["candidate", "champion"])
def test_errors_are_judged_apart_and_never_flatter(arm: str) -> None:
    blocks = [replace(block, **{arm: failing(getattr(block, arm), 0.1, 0.1)}) for block in SOUND]
    check = judge_comparison(PLAN, blocks)
    assert check.verdict is Verdict.INCONCLUSIVE
    assert f"the {arm}: 2,000 of 20,000 failed, which is judged apart" in check.message


def test_a_candidate_that_times_out_is_slower_than_anything_measured() -> None:
    blocks = [replace(block, candidate=failing(block.candidate, 0.03, np.inf)) for block in SOUND]
    check = judge_comparison(PLAN, blocks)
    assert check.verdict is Verdict.FAILED
    assert check.observed == pytest.approx(5000 / 2)


def test_a_stall_of_either_arm_is_for_a_person_to_judge() -> None:
    late_ms = 2 + np.linspace(1.9, 0.9, 200) * 1000
    check = judge_comparison(PLAN, with_first(SOUND, "candidate", latency_ms=late_ms))
    assert check.message.startswith("INCONCLUSIVE: p99_ratio: the candidate: 1.897 s without a reply")


def test_one_slow_request_at_the_end_of_a_block_is_no_stall() -> None:
    check = judge_comparison(PLAN, with_first(SOUND, "candidate", latency_ms=spoilt(1900)))
    assert check.verdict is Verdict.PASSED


def test_a_plan_without_a_comparison_has_none() -> None:
    check = judge_comparison(plan_of(comparison=None), SOUND)
    assert (check.verdict, check.limit) == (Verdict.INCONCLUSIVE, None)


@pytest.mark.parametrize(
    ("blocks", "verdict"),
    [(SOUND, Verdict.PASSED), (blocks_like(20, 2), Verdict.FAILED), (SOUND[:5], Verdict.INCONCLUSIVE)],
)
def test_the_comparison_decides_beside_the_limits(blocks: list[Block], verdict: Verdict) -> None:
    passed = judge(PLAN, [look_of(np.full(12_000, 10.0))], CONTROL)
    check = judge_comparison(PLAN, blocks)
    both = with_comparison(passed, check)
    assert both.verdict is verdict
    assert both.checks == (check, *passed.checks)


def test_a_run_over_its_limits_stays_failed_whatever_the_comparison_says() -> None:
    failed = judge(PLAN, [look_of(np.full(12_000, 104.0))], CONTROL)
    assert with_comparison(failed, judge_comparison(PLAN, SOUND)).verdict is Verdict.FAILED
