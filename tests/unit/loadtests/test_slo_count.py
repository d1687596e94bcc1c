"""What clustered slow requests prove: half a slow request is a whole one for a yes, and none for a no."""

from loadtests.judge.quantiles import Count, min_failing

N, P99, ALPHA = 100_000, 0.99, 0.05


def test_slow_requests_count_up_for_a_yes_and_down_for_a_no() -> None:
    most = Count(N, 0, 2.0).most(P99, ALPHA)
    assert Count(N, 2 * most, 2.0).passes(P99, ALPHA)
    assert not Count(N, 2 * most + 1, 2.0).passes(P99, ALPHA)
    least = min_failing(N // 2, P99, ALPHA)
    assert Count(N, 2 * least, 2.0).fails(P99, ALPHA)
    assert not Count(N, 2 * least - 1, 2.0).fails(P99, ALPHA)
