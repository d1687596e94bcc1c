"""Check that a run can be judged at all: a measurement that the generator bent is never a pass."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from loadtests.judge.verdict import About, Check, Verdict, most_frequent, quoted
from loadtests.plan.plan import Plan, min_requests
from loadtests.samples import Look

MAX_GENERATOR_CPU = 0.8
MIN_ACHIEVED = 0.99
MAX_LAG_SHARE = 0.1
MAX_CONTROL_SHARE = 0.2
ABOUT = {
    "data": About.SERVED,
    "versions": About.SERVED,
    "generator_cpu": About.GENERATOR,
    "achieved_rate": About.MACHINE,
    "send_lag": About.MACHINE,
    "control": About.MACHINE,
}


def data_check(looks: Sequence[Look]) -> Check:
    """Check that there are requests and that every value is a possible one."""
    latency_ms = np.concatenate([look.latency_ms for look in looks])
    times_s = np.concatenate([values for look in looks for values in (look.intended_s, look.sent_s)])
    n = len(latency_ms)
    # NaN compares false, so it is counted here as well as what is negative.
    wrong = int(np.sum(~(latency_ms >= 0)) + np.sum(~np.isfinite(times_s)))
    holds = n > 0 and wrong == 0
    return _check("data", holds, float(wrong), 0.0, f"{n:,} requests, {wrong:,} impossible values")


def version_check(looks: Sequence[Look], expected: str) -> Check:
    """Check that every successful reply names the version under test."""
    served = served_versions(looks)
    others = {version: count for version, count in served.items() if version != expected}
    foreign = sum(others.values())
    named = most_frequent((f"by {quoted(version)}", count) for version, count in others.items())
    message = f'all replies by "{expected}"' if not others else f'expected "{expected}", but {named}'
    return _check("versions", not others, float(foreign), 0.0, message)


def generator_checks(parts: Sequence[Sequence[Look]], max_lag_ms: float) -> list[Check]:
    """Check CPU, achieved sends and send lag of the worst worker in the worst of the parts; each must hold data.

    A part is what has to be sound by itself: a look, or all that a look measured of one arm. Pooled, what disturbed
    one part would hide behind the others.
    """
    senders = [own for part in parts for own in each_worker(part)]
    cpu = max(fmean(look.window.cpu for look in own) for own in senders)
    achieved = min(achieved_sends(own) / planned_sends(own) for own in senders)
    lag_ms = max(send_lag_p99_ms(part) for part in parts)
    return [
        _check(
            "generator_cpu",
            cpu < MAX_GENERATOR_CPU,
            cpu,
            MAX_GENERATOR_CPU,
            f"generator used {cpu:.0%} of its core, allowed is less than {MAX_GENERATOR_CPU:.0%}",
        ),
        _check(
            "achieved_rate",
            achieved >= MIN_ACHIEVED,
            achieved,
            MIN_ACHIEVED,
            f"{achieved:.2%} of the planned requests were sent in time, needed {MIN_ACHIEVED:.0%}",
        ),
        _check(
            "send_lag",
            lag_ms < max_lag_ms,
            lag_ms,
            max_lag_ms,
            f"p99 send lag {lag_ms:.2f} ms, allowed is less than {max_lag_ms:.4g} ms",
        ),
    ]


def lag_allowed_ms(plan: Plan) -> float:
    """Return the send lag that is too much to judge the plan's limits."""
    return plan.strictest_ms * MAX_LAG_SHARE


def size_check(plan: Plan, looks: Sequence[Look]) -> Check:
    """Check that there are requests enough for the judged limits."""
    n = sum(len(look.latency_ms) for look in looks)
    needed = max(min_requests(1 - limit.quantile, plan.alpha) for limit in plan.judged_limits)
    return _check("sample_size", n >= needed, float(n), float(needed), f"{n:,} requests, needed {needed:,}")


def control_check(plan: Plan, control: Look) -> Check:
    """Check that each worker measures an empty endpoint as fast: what its machine adds by itself."""
    limit_ms = plan.strictest_ms * MAX_CONTROL_SHARE
    if not len(control.latency_ms):
        return _check("control", False, None, limit_ms, "no request was measured at an empty endpoint")
    p99_ms = max(_p99_ms(own) for (own,) in each_worker([control]))
    message = f"p99 of an empty endpoint {p99_ms:.2f} ms, allowed is less than {limit_ms:g} ms"
    return _check("control", p99_ms < limit_ms, p99_ms, limit_ms, message)


def served_versions(looks: Sequence[Look]) -> dict[str, int]:
    """Count the successful replies by version."""
    versions = {version for look in looks for version in look.served}
    return {version: sum(look.served.get(version, 0) for look in looks) for version in sorted(versions)}


def generator_cpu(looks: Sequence[Look]) -> float:
    """Return the busiest worker's share of one core."""
    return max(look.window.cpu for look in looks)


def planned_sends(looks: Sequence[Look]) -> int:
    """Return how many arrivals the schedule held."""
    return max(1, sum(look.window.planned for look in looks))


def missing_requests(looks: Sequence[Look]) -> int:
    """Count the planned arrivals that left no record: nobody knows how they would have been answered."""
    return sum(max(0, look.window.planned - len(look.latency_ms)) for look in looks)


def achieved_sends(looks: Sequence[Look]) -> int:
    """Count the requests sent before their look was over."""
    over_s = np.repeat([look.window.measured_until_s for look in looks], [len(look.sent_s) for look in looks])
    return int(np.sum(np.concatenate([look.sent_s for look in looks]) <= over_s))


def send_lag_p99_ms(looks: Sequence[Look]) -> float:
    """Return the 99th percentile of actual minus intended send time, of the worker that was latest."""
    lags_s = (np.concatenate([look.sent_s - look.intended_s for look in own]) for own in each_worker(looks))
    return max(float(np.quantile(lag_s, 0.99)) * 1000 if len(lag_s) else 0.0 for lag_s in lags_s)


def each_worker(looks: Sequence[Look]) -> list[tuple[Look, ...]]:
    """Return the looks of each worker by itself: a machine that is late must not hide among those that are not."""
    return list(zip(*(look.workers or (look,) for look in looks), strict=True))


def _p99_ms(look: Look) -> float:
    sound = data_check([look]).verdict is Verdict.PASSED
    return float(np.quantile(look.latency_ms, 0.99, method="inverted_cdf")) if sound else float("inf")


def _check(name: str, holds: bool, observed: float | None, limit: float, message: str) -> Check:
    verdict = Verdict.PASSED if holds else Verdict.INCONCLUSIVE
    word = "PASS" if holds else "INCONCLUSIVE:"
    about = ABOUT.get(name, About.TARGET)
    return Check(name, verdict, observed, limit, f"{word} {name}: {message}", about=about)
