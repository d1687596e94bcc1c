"""The search for the highest rate, over services of a known one."""

import json
from collections.abc import Callable

import pytest

from loadtests.judge.verdict import About, Check, Verdict
from loadtests.plan.plan import Plan
from loadtests.report.report import render_capacity
from loadtests.runner.capacity import Capacity, capacity_json, find_capacity
from loadtests.runner.result import Result, without_judgement
from tests.unit.loadtests.test_slo import plan_of


def service(highest_per_s: float, *, saturated_from: float = 1e9) -> Callable[[Plan, int], Result]:
    """Return runs against a service that meets its SLO up to a rate, by a generator that sends up to another."""

    def run(plan: Plan, number: int) -> Result:
        verdict = Verdict.PASSED if plan.rate_per_s <= highest_per_s else Verdict.FAILED
        check = Check("p99", verdict, None, None, f"p99 at {plan.rate_per_s:g}")
        if plan.rate_per_s >= saturated_from:
            message = f"generator_cpu at {plan.rate_per_s:g}"
            check = Check("generator_cpu", Verdict.INCONCLUSIVE, None, None, message, about=About.GENERATOR)
        return without_judgement(plan, "now", check)

    return run


@pytest.mark.parametrize("highest_per_s", [30, 199, 200, 201, 730, 5_000])
def test_the_bracket_holds_the_highest_rate_and_is_narrow(highest_per_s: float) -> None:
    found = find_capacity(plan_of(), service(highest_per_s))
    assert found.verdict is Verdict.PASSED
    assert found.highest_passed_per_s
    assert found.lowest_failed_per_s
    assert found.highest_passed_per_s <= highest_per_s < found.lowest_failed_per_s
    assert found.lowest_failed_per_s / found.highest_passed_per_s <= 1.1
    assert len(found.tries) < 16


def test_a_saturated_generator_is_inconclusive_and_said_so() -> None:
    found = find_capacity(plan_of(), service(5_000, saturated_from=1_500))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert (found.highest_passed_per_s, found.lowest_failed_per_s) == (800, None)
    assert "the generator was saturated at 1,600 req/s: generator_cpu" in found.message
    assert [one.rate_per_s for one in found.tries].count(1_600) == 2


def test_a_run_that_failed_of_itself_ends_the_search_at_once() -> None:
    def broken(plan: Plan, number: int) -> Result:
        return without_judgement(plan, "now", Check("run", Verdict.ERROR, None, None, "ERROR: run: Locust ended"))

    found = find_capacity(plan_of(), broken)

    assert (found.verdict, len(found.tries)) == (Verdict.INCONCLUSIVE, 1)
    assert "Locust ended" in found.message


def test_a_service_that_meets_nothing_is_inconclusive() -> None:
    found = find_capacity(plan_of(), service(0))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.highest_passed_per_s is None
    assert len(found.tries) == 16


def test_every_run_may_have_as_much_in_flight_as_its_rate_needs() -> None:
    seen: list[tuple[float, int]] = []

    def run(plan: Plan, number: int) -> Result:
        seen.append((plan.rate_per_s, plan.max_in_flight))
        return service(700)(plan, number)

    find_capacity(plan_of(), run)
    assert seen[:3] == [(200, 1_000), (400, 2_000), (800, 4_000)]


def test_the_bracket_is_written_as_one_check_with_its_interval() -> None:
    plan = plan_of()
    found: Capacity = find_capacity(plan, service(730))
    body = json.loads(capacity_json(plan, found, "2026-01-01T00:00:00+00:00"))
    (check,) = body["checks"]
    assert check["name"] == "capacity"
    assert check["interval"] == [found.highest_passed_per_s, found.lowest_failed_per_s]
    assert body["tries"][0] == {"rate_per_s": 200, "verdict": "passed", "message": "every check passed",
                                "saturated": False}  # fmt: skip
    page = render_capacity(plan, found, "2026-01-01T00:00:00+00:00")
    assert found.message in page
    assert page.count("try-") == len(found.tries)
