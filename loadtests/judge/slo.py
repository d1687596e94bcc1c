"""Judge raw latencies against an SLO: pure, exact, and never a pass without evidence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loadtests.judge import quantiles, validity
from loadtests.judge.population import Population
from loadtests.judge.stall import longest_stall
from loadtests.judge.verdict import About, Check, Verdict, failure, most_frequent
from loadtests.plan.plan import Limit, Plan
from loadtests.samples import Look

MEDIAN = 0.5


@dataclass(frozen=True)
class Judgement:
    """The verdict on a run with its checks; `deff` is the largest design effect of the limits judged."""

    verdict: Verdict
    checks: tuple[Check, ...]
    deff: float
    valid: bool

    @property
    def extendable(self) -> bool:
        """Tell whether more requests could decide: a valid run that proved neither yes nor no."""
        return self.valid and self.verdict is Verdict.INCONCLUSIVE


def judge(plan: Plan, looks: Sequence[Look], control: Look, *, first_request_ms: float | None = None) -> Judgement:
    """Judge all looks together at the plan's alpha, after the control run against an empty endpoint.

    `first_request_ms` is the latency of the first request after the deploy, None where it was not measured.
    """
    data = validity.data_check(looks)
    if data.verdict is not Verdict.PASSED:
        return Judgement(Verdict.INCONCLUSIVE, (data,), 1.0, valid=False)
    served = validity.version_check(looks, plan.expected_version)
    stall = _stall_check(plan, looks)
    sending = validity.generator_checks([[look] for look in looks], validity.lag_allowed_ms(plan))
    generator = [validity.control_check(plan, control), *sending, validity.size_check(plan, looks)]
    latency = [_quantile_check(plan, limit, looks) for limit in plan.limits]
    deffs = [deff for check, deff in latency if check.judged]
    first = [_first_request_check(plan.first_request_ms, first_request_ms)] if plan.first_request_ms else []
    slo = [_error_check(plan, looks), *(check for check, _ in latency), *first]
    verdict = _conclude(identity=[data, served], stall=stall, generator=generator, slo=slo)
    valid = all(check.verdict is Verdict.PASSED for check in (data, served, stall, *generator, *first))
    return Judgement(verdict, (*slo, stall, data, served, *generator), max(deffs), valid)


def judge_count(count: quantiles.Count, quantile: float, *, alpha: float, windows: int) -> Verdict:
    """Judge how many requests were slower than a quantile's limit, counted over so many windows."""
    if windows >= quantiles.MIN_WINDOWS:
        if count.passes(quantile, alpha):
            return Verdict.PASSED
        if count.fails(quantile, alpha):
            return Verdict.FAILED
    return Verdict.INCONCLUSIVE


def with_comparison(judgement: Judgement, comparison: Check) -> Judgement:
    """Add the comparison with the champion: one no stops the version, and only two yeses let it go on."""
    found = {judgement.verdict, comparison.verdict}
    return replace(judgement, verdict=_worst(found), checks=(comparison, *judgement.checks))


def median_ms(plan: Plan, looks: Sequence[Look]) -> tuple[float | None, tuple[float, float] | None]:
    """Return the median latency of the requests on the plan's path that did not fail fast, and its 95 % interval."""
    found = Population.of([look.part(plan.path) for look in looks], plan.shape, limit_ms=float("inf"))
    if not len(found.latency_ms):
        return None, None
    interval = quantiles.bootstrap_interval(found.latency_ms, found.window, quantile=MEDIAN, seed=plan.seed)
    return quantiles.observed_quantile(found.latency_ms, MEDIAN), interval


def _conclude(*, identity: Sequence[Check], stall: Check, generator: Sequence[Check], slo: Sequence[Check]) -> Verdict:
    """Rank a stall above the run's validity: its generator was sound in that time."""
    if any(check.verdict is not Verdict.PASSED for check in identity):
        return Verdict.INCONCLUSIVE
    if stall.verdict is Verdict.FAILED:
        return Verdict.FAILED
    if any(check.verdict is not Verdict.PASSED for check in (stall, *generator)):
        return Verdict.INCONCLUSIVE
    return _worst({check.verdict for check in slo if check.judged})


def _worst(found: set[Verdict]) -> Verdict:
    return next((v for v in (Verdict.FAILED, Verdict.INCONCLUSIVE) if v in found), Verdict.PASSED)


def _quantile_check(plan: Plan, limit: Limit, looks: Sequence[Look]) -> tuple[Check, float]:
    found = Population.of([look.part(plan.path) for look in looks], plan.shape, limit.limit_ms)
    claim = f"{limit.name} <= {limit.limit_ms:g} ms"
    if not len(found.latency_ms):
        message = f"INCONCLUSIVE: {claim}: no request was answered in a way that counts"
        return Check(limit.name, Verdict.INCONCLUSIVE, None, limit.limit_ms, message, None, limit.judged), 1.0
    slow = found.slow_per_window(limit.limit_ms)
    deff = quantiles.design_effect(slow, found.stage)
    missing = validity.missing_requests(looks)
    count = quantiles.Count(len(found.latency_ms), int(slow.sum()), deff, missing)
    observed_ms = quantiles.observed_quantile(found.latency_ms, limit.quantile)
    verdict = judge_count(count, limit.quantile, alpha=plan.alpha, windows=len(found.stage))
    message = _quantile_message(plan, limit, verdict, observed_ms=observed_ms, count=count, looks=len(looks))
    interval = quantiles.bootstrap_interval(found.latency_ms, found.window, quantile=limit.quantile, seed=plan.seed)
    return Check(limit.name, verdict, observed_ms, limit.limit_ms, message, interval, limit.judged), deff


def _quantile_message(
    plan: Plan, limit: Limit, verdict: Verdict, *, observed_ms: float, count: quantiles.Count, looks: int
) -> str:
    allowed = count.most(limit.quantile, plan.alpha)
    at_most = f"{allowed:,}" if allowed >= 0 else "none"
    counted = f"{count.slow:,} of {count.n:,} slow"
    if count.missing:
        counted += f", {count.missing:,} more not measured"
    if count.deff > 1:
        worth = f"{count.slow / count.deff:,.1f} of {count.effective_n:,}"
        counted += f", worth {worth} at a clustering of {count.deff:.2f}"
    claim = f"{limit.name} <= {limit.limit_ms:g} ms"
    if verdict is Verdict.FAILED:
        details = f"{counted}, limit {at_most}; {plan.look_name(looks)}"
        return failure(limit.name, observed_ms, limit.limit_ms, unit="ms", details=details)
    if verdict is Verdict.PASSED:
        return f"PASS {claim}: {counted}, limit {at_most} ({plan.look_name(looks)})"
    failing = quantiles.min_failing(count.effective_n, limit.quantile, plan.alpha)
    bounds = f"limit {at_most}, fails from {failing:,}"
    return f"INCONCLUSIVE: {claim}: {counted}, {bounds} ({plan.look_name(looks)})"


def _first_request_check(limit_ms: float, observed_ms: float | None) -> Check:
    name = "first_request"
    if observed_ms is None or not observed_ms >= 0:
        message = f"INCONCLUSIVE: {name} <= {limit_ms:g} ms: the first request was not measured"
        return Check(name, Verdict.INCONCLUSIVE, None, limit_ms, message)
    if observed_ms > limit_ms:
        message = failure(name, observed_ms, limit_ms, unit="ms", details="the first one after the deploy")
        return Check(name, Verdict.FAILED, observed_ms, limit_ms, message)
    message = f"PASS {name} <= {limit_ms:g} ms: {observed_ms:.1f} ms, the first one after the deploy"
    return Check(name, Verdict.PASSED, observed_ms, limit_ms, message)


def _error_check(plan: Plan, looks: Sequence[Look]) -> Check:
    n = sum(len(look.failed) for look in looks)
    failed = sum(int(look.failed.sum()) for look in looks)
    missing = validity.missing_requests(looks)
    low, _ = quantiles.clopper_pearson(failed, n + missing, plan.alpha)
    _, high = quantiles.clopper_pearson(failed + missing, n + missing, plan.alpha)
    rate = failed / n
    budget = plan.max_error_rate
    kinds = {kind for look in looks for kind in look.errors}
    named = most_frequent((kind, sum(look.errors.get(kind, 0) for look in looks)) for kind in kinds)
    counted = f"{failed:,} of {n:,} failed" + (f": {named}" if named else "")
    if missing:
        counted += f"; {missing:,} more not measured"
    bounds = f"between {low:.4%} and {high:.4%}, each bound at {1 - plan.alpha:.1%}"
    if high <= budget:
        verdict, message = Verdict.PASSED, f"PASS errors <= {budget:.4%}: {counted}; {bounds}"
    elif low > budget:
        verdict = Verdict.FAILED
        message = failure("errors", rate, budget, unit="", details=f"{counted}; {bounds}")
    else:
        verdict, message = Verdict.INCONCLUSIVE, f"INCONCLUSIVE: errors <= {budget:.4%}: {counted}; {bounds}"
    return Check("errors", verdict, rate, budget, message, (low, high))


def _stall_check(plan: Plan, looks: Sequence[Look]) -> Check:
    stall, about = longest_stall(list(looks)), About.TARGET
    found = f"{stall.length_s:.3f} s without a reply, {max(0.0, stall.after_s):.1f} s into look {stall.look}"
    if stall.length_s <= plan.max_stall_s:
        verdict, message = Verdict.PASSED, f"PASS stall <= {plan.max_stall_s:g} s: at most {found}"
    elif stall.send_lag_p99_ms < validity.lag_allowed_ms(plan):
        verdict = Verdict.FAILED
        message = failure("stall", stall.length_s, plan.max_stall_s, unit="s", details=found)
    else:
        verdict, about = Verdict.INCONCLUSIVE, About.MACHINE
        message = f"INCONCLUSIVE: stall: {found}, but requests were sent {stall.send_lag_p99_ms:.1f} ms late"
    return Check("stall", verdict, stall.length_s, plan.max_stall_s, message, about=about)
