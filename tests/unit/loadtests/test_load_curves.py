"""The curve of a run's latencies keeps their shape, and the tail that limits are about, in few points."""

import json

import numpy as np
import pytest

from loadtests.judge.comparison import Block
from loadtests.judge.slo import judge
from loadtests.runner.curves import MOST_POINTS, Measuring, curve_of
from loadtests.runner.result import as_json, of_judgement
from loadtests.study.simulation import CONTROL, look_of, plan_of


def test_a_curve_says_which_share_was_answered_within_a_latency() -> None:
    latency_ms = np.random.default_rng(1).permutation(np.arange(1, 10_001) / 100)

    curve = curve_of(Measuring.ALONE, latency_ms)

    assert len(curve.ms) == len(curve.share) <= MOST_POINTS
    assert curve.ms == tuple(sorted(curve.ms))
    assert curve.share == pytest.approx([each / 100 for each in curve.ms], abs=1e-3)
    assert (curve.ms[0], curve.ms[-1], curve.share[-1]) == (0.01, 100.0, 1.0)
    assert sum(share > 0.99 for share in curve.share) >= MOST_POINTS // 2 - 1


def test_what_got_no_reply_is_never_reached() -> None:
    curve = curve_of(Measuring.ALONE, np.array([3.0, np.inf, 1.0, 2.0]))

    assert (curve.ms, curve.share) == ((1.0, 2.0, 3.0), (0.25, 0.5, 0.75))
    assert curve_of(Measuring.ALONE, np.zeros(0)).ms == ()


def test_a_result_has_the_curves_of_all_that_was_measured() -> None:
    plan, looks = plan_of(), [look_of(np.full(12_000, 10.0))]
    # Errors that were answered at once must not make the version look quicker.
    failed = np.arange(12_000) < 6000
    blocks = [Block(candidate=look_of(np.where(failed, 1.0, 12.0), failed=failed), champion=look_of([8.0, 9.0]))]
    judgement = judge(plan, looks, CONTROL)

    alone = of_judgement(plan, "now", looks=looks, judgement=judgement, raws=[])
    both = json.loads(as_json(of_judgement(plan, "now", looks=looks, blocks=blocks, judgement=judgement, raws=[])))

    assert [each.of for each in alone.curves] == [Measuring.ALONE]
    assert alone.blocks == ()
    curves = {each["of"]: (set(each["ms"]), each["share"][-1]) for each in both["curves"]}
    assert curves == {
        "alone": ({10.0}, 1.0), "candidate_in_turn": ({12.0}, 1.0), "champion_in_turn": ({8.0, 9.0}, 1.0)
    }  # fmt: skip
    assert len(both["blocks"]) == 1
