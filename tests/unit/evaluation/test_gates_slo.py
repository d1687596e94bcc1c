import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from loadtests.judge.slo import judge
from loadtests.plan.plan import Via
from loadtests.plan.reading import read_plan
from loadtests.runner.result import as_json, of_judgement
from loadtests.samples import Window
from loadtests.study.simulation import CONTROL, look_of, plan_of
from pipelines.domain.description import Golden
from pipelines.domain.policy import Policy
from pipelines.domain.release import Environment, Release
from pipelines.domain.verdict import GateResult, Verdict, overall
from pipelines.errors import Cancelled, DeployFailed, Overdue, SlipwayError, Undecided
from pipelines.evaluation.gates.service.load_plan import load_plan
from pipelines.evaluation.gates.service.slo import SLO, RouteRun, judge_run, time_first_request
from pipelines.evaluation.gates.service.slo_limits import SloLimits
from pipelines.evaluation.gates.service.world import Beside, Service
from pipelines.ports import HttpReply, LoadRun, LoadRunner, never_ending
from tests.support.world.fakes import FakeLoadRunner, FakeProbe
from tests.support.world.records import policy

URL, CHAMPION_URL = "http://127.0.0.1:9", "http://127.0.0.1:8"
CHAMPION = Beside(CHAMPION_URL, "1", [{"n": 0}])
RELEASE = Release("trial-e-1", "toy-model", Environment.STAGING, "2", "sha256:b")
COMPARISON = {"blocks": 100, "block_s": 1, "warmup_s": 0.2, "margin": 1.1, "tolerance_ms": 0.5}
BATCH = {
    "route": "/predict/batch",
    "rate_per_s": 20,
    "quantiles": [{"quantile": 0.95, "limit_ms": 400, "judged": True}],
}


def check(name: str = "p99", *, verdict: str = "passed", judged: bool = True, **values: Any) -> dict[str, Any]:
    measured = {"observed": 61.0, "interval": [50.0, 70.0], "limit": 100.0, **values}
    return {"name": name, "verdict": verdict, "judged": judged, "message": f"{verdict} {name}", **measured}


checked = check


def result(*checks: dict[str, Any], verdict: str | None = None, via: str = "direct") -> dict[str, Any]:
    """Return the result of a load run with these checks, by default as bad as its worst one."""
    found = {check["verdict"] for check in checks if check["judged"]}
    worst = next((word for word in ("failed", "error", "inconclusive") if word in found), "passed")
    return {"verdict": verdict or worst, "via": via, "checks": list(checks)}


def judged(latency_ms: Any, **changes: Any) -> dict[str, Any]:
    """Return the result of a load run that measured one look, as the load run itself judges and writes it."""
    plan = plan_of(comparison=None, via=Via.DIRECT)
    looks = [look_of(latency_ms, **changes)]
    judgement = judge(plan, looks, CONTROL)
    body: dict[str, Any] = json.loads(as_json(of_judgement(plan, "now", looks=looks, judgement=judgement, raws=[])))
    return body


def limits(**changes: Any) -> SloLimits:
    return SLO.limits_of(policy(**changes))


def results_of(result: dict[str, Any], *, demo: bool) -> list[GateResult]:
    return judge_run(RouteRun("slo", result), demo=demo)


def plan_for(slo: SloLimits, **changes: Any) -> dict[str, Any]:
    return load_plan(slo, URL, "2", **changes)


def measured(
    loads: LoadRunner,
    by: Policy,
    workdir: Path,
    *,
    rows: int = 3,
    beside: bool = False,
    first_ms: float | None = None,
    check: Callable[[], None] = never_ending,
) -> list[GateResult]:
    """Return what the gate finds of version 2, and without `beside` not that there was nobody to compare with."""
    service = Service(
        url=URL,
        release=RELEASE,
        golden=Golden(rows=(), expected=(), tolerance=0),
        profile=by.profile,
        rows=requests(rows),
        probe=FakeProbe(RELEASE, {}),
        loads=loads,
        releases=list,
        workdir=workdir,
        first_request_ms=first_ms,
        champion=CHAMPION if beside else None,
        check=check,
    )
    return SLO.results(service, by)


def requests(rows: int = 3) -> list[dict[str, Any]]:
    return [{"age": age, "plan": "pro"} for age in range(rows)]


@pytest.mark.parametrize("verdict", ["passed", "failed", "inconclusive", "error", "not_applicable"])
def test_a_judged_check_keeps_its_verdict(verdict: str) -> None:
    (found,) = results_of(result(check(verdict=verdict)), demo=False)

    assert found.verdict == verdict
    assert (found.name, found.message) == ("slo.p99", f"{verdict} p99 [path: direct]")
    assert (found.observed, found.interval, found.limit) == (61.0, (50.0, 70.0), 100.0)


SLOW = np.full(12_000, 104.0)
DISTURBED: dict[str, dict[str, Any]] = {
    "a busy generator": {"window": Window(1000, 1060, 12_000, 0.95)},
    "late sends": {"sent_s": 1000.02 + np.arange(12_000) * 0.005},
    "two versions": {"served": {"5": 6_000, "6": 6_000}},
}


@pytest.mark.parametrize("how", DISTURBED)
def test_a_disturbed_run_holds_a_slow_version_and_never_stops_it(how: str) -> None:
    results = results_of(judged(SLOW, **DISTURBED[how]), demo=False)

    assert overall(results) is Verdict.INCONCLUSIVE
    (slow,) = [found for found in results if found.name == "slo.p99"]
    assert slow.message.startswith("FAIL: p99=104.0000 ms > 100 ms (")
    assert slow.message.endswith("(does not count: the run is inconclusive)")


def test_a_sound_run_stops_a_slow_version() -> None:
    assert overall(results_of(judged(SLOW), demo=False)) is Verdict.FAILED


def test_a_frozen_service_is_stopped_although_its_requests_were_sent_late_elsewhere() -> None:
    """The stall rule ranks above the run's validity, and only the judge knows: its verdict is the run's."""
    frozen = np.full(12_000, 10.0)
    frozen[6_000:6_600] = np.linspace(3_000, 5, 600)
    late = np.where(np.arange(12_000) < 3_000, 0.05, 0.0001)

    results = results_of(judged(frozen, sent_s=1000 + np.arange(12_000) * 0.005 + late), demo=False)

    assert overall(results) is Verdict.FAILED


def test_fewer_answers_than_were_asked_for_are_a_no_by_the_errors() -> None:
    unanswered = np.where(np.arange(12_000) % 10 == 0, np.inf, 10.0)
    results = results_of(judged(unanswered), demo=False)

    assert {found.name for found in results if found.verdict is Verdict.FAILED} == {"slo.errors", "slo.p99"}


def test_every_verdict_names_the_path_measured() -> None:
    checks = result(check(), check("errors", verdict="failed"), check("first_request"), via="edge")
    messages = {found.name: found.message for found in results_of(checks, demo=False)}

    assert messages["slo.p99"].endswith("[path: edge]")
    assert messages["slo.errors"].endswith("[path: edge]")
    # Sent by whoever deployed, to the replica itself.
    assert messages["slo.first_request"].endswith("[path: direct]")


def test_a_check_that_is_only_shown_stops_nothing_and_says_so() -> None:
    results = results_of(result(check(), check("p50", verdict="failed", judged=False)), demo=False)

    assert overall(results) is Verdict.PASSED
    assert results[1].message == "failed p50 (shown, not judged) [path: direct]"


def test_only_shown_checks_make_no_pass_of_their_own() -> None:
    (shown,) = results_of(result(check(judged=False)), demo=False)

    assert shown.verdict is Verdict.NOT_APPLICABLE


def test_demo_evidence_is_marked_on_every_line() -> None:
    results = results_of(result(check(), check("errors")), demo=True)

    assert all(found.message.endswith("[demo evidence]") for found in results)


def test_a_check_without_numbers_is_taken() -> None:
    (found,) = results_of(result(check(observed=None, interval=None, limit=None)), demo=False)

    assert (found.observed, found.interval, found.limit) == (None, None, None)


@pytest.mark.parametrize("interval", [[50.0, None], [None, None]])
def test_a_bound_that_is_no_finite_number_leaves_no_interval_and_can_be_written(interval: list[float | None]) -> None:
    # As it comes from a run whose requests were mostly never answered.
    (found,) = results_of(result(check(observed=None, interval=interval)), demo=False)
    assert found.interval is None
    assert TypeAdapter(GateResult).dump_python(found, mode="json")["interval"] is None


def test_a_run_that_measured_nothing_is_inconclusive() -> None:
    (found,) = results_of(result(), demo=False)

    assert found.verdict is Verdict.INCONCLUSIVE


def test_a_run_that_could_not_be_carried_out_is_an_error_not_a_pass(tmp_path: Path) -> None:
    loads = FakeLoadRunner(refusal=Undecided("the load run ended with 2"))

    (found,) = measured(loads, policy(), tmp_path)

    assert found.verdict is Verdict.ERROR
    assert "ended with 2" in found.message


def test_the_plan_states_the_policy_and_the_version_that_must_answer() -> None:
    plan = plan_for(limits(**{"slo.rate_per_s": 123.5, "slo.timeout_s": 2}))

    assert (plan["host"], plan["path"], plan["expected_version"]) == (URL, "/predict", "2")
    assert (plan["rate_per_s"], plan["timeout_s"], plan["max_in_flight"]) == (123.5, 2.0, 247)
    assert plan["limits"] == [
        {"quantile": 0.95, "limit_ms": 50.0, "judged": True},
        {"quantile": 0.99, "limit_ms": 100.0, "judged": True},
    ]


@pytest.mark.parametrize(("changes", "workers"), [({}, 1), ({"slo.workers": 4}, 4)])
def test_the_load_comes_from_as_many_workers_as_the_policy_says(changes: dict[str, Any], workers: int) -> None:
    assert plan_for(limits(**changes))["workers"] == workers


def test_the_load_runs_own_parser_takes_the_plan(tmp_path: Path) -> None:
    rows_file = tmp_path / "rows.json"
    rows_file.write_text('[{"age": 1}]')

    plan_file = tmp_path / "plan.json"
    plan_file.write_text(json.dumps({**plan_for(limits()), "rows_file": str(rows_file)}))

    plan = read_plan(plan_file)

    assert (plan.rate_per_s, plan.duration_s, plan.expected_version) == (200.0, 60.0, "2")


def test_the_rows_sent_are_the_requests_made_of_the_evaluation_set(tmp_path: Path) -> None:
    loads = FakeLoadRunner(result(check()))
    results = measured(loads, policy(), tmp_path, rows=7)

    assert overall(results) is Verdict.PASSED
    assert loads.rows == requests(7)


@pytest.mark.parametrize("ended", [Cancelled("e-1 was cancelled by bob"), Overdue("e-1 took longer than 1 s")])
def test_an_evaluation_that_has_to_end_is_no_result_of_its_load_run(tmp_path: Path, ended: SlipwayError) -> None:
    def check_now() -> None:
        raise ended

    with pytest.raises(type(ended)):
        measured(FakeLoadRunner(result(check())), policy(), tmp_path, check=check_now)


class Answering(FakeLoadRunner):
    """A load runner that keeps its plans and answers each with the checks of its route."""

    def __init__(self, **verdicts: str) -> None:
        super().__init__()
        self.plans: list[dict[str, Any]] = []
        self._verdicts = verdicts

    def run(
        self,
        plan: dict[str, Any],
        rows: list[dict[str, Any]],
        workdir: Path,
        *,
        check: Callable[[], None] = never_ending,
    ) -> LoadRun:
        self.plans.append(plan)
        verdict = self._verdicts.get(plan["path"].rpartition("/")[2], "passed")
        return LoadRun(result(checked(verdict=verdict)), plan["path"].encode())


def test_each_route_is_loaded_by_itself_and_named_in_its_results(tmp_path: Path) -> None:
    loads = Answering()
    results = measured(loads, policy(**{"slo.routes": [BATCH]}), tmp_path, beside=True)

    assert [found.name for found in results] == ["slo.p99", "slo.batch.p99"]
    assert [(plan["path"], plan["rate_per_s"]) for plan in loads.plans] == [
        ("/predict", 200.0),
        ("/predict/batch", 20.0),
    ]
    assert (tmp_path / "slo.batch" / "report.html").read_text() == "/predict/batch"
    assert json.loads((tmp_path / "slo" / "result.json").read_text())["checks"]


def test_after_a_no_no_further_route_is_loaded(tmp_path: Path) -> None:
    loads = Answering(predict="failed")
    results = measured(loads, policy(**{"slo.routes": [BATCH]}), tmp_path, beside=True)

    assert [found.name for found in results] == ["slo.p99"]


def test_a_comparison_names_the_champion_and_the_first_request_what_it_took(tmp_path: Path) -> None:
    slo = limits(**{"slo.comparison": COMPARISON, "slo.first_request_ms": 500})
    rows_file = tmp_path / "rows.json"
    rows_file.write_text('[{"age": 1}]')
    plan_file = tmp_path / "plan.json"
    plan_file.write_text(
        json.dumps({**plan_for(slo, champion=CHAMPION, first_request_ms=12.0), "rows_file": str(rows_file)})
    )

    plan = read_plan(plan_file)

    assert plan.comparison is not None
    assert (plan.comparison.host, plan.comparison.expected_version) == (CHAMPION_URL, "1")
    assert (plan.comparison.blocks, plan.comparison.margin) == (100, 1.1)
    assert (plan.first_request_ms, plan.first_request_took_ms) == (500.0, 12.0)
    assert "comparison" not in plan_for(slo)


def test_the_batch_plan_is_one_that_the_load_run_takes(tmp_path: Path) -> None:
    (_, batch) = limits(**{"slo.routes": [BATCH]}).each_route()
    rows_file = tmp_path / "rows.json"
    rows_file.write_text('[{"age": 1}]')
    plan_file = tmp_path / "plan.json"
    plan_file.write_text(
        json.dumps({**plan_for(batch, champion=CHAMPION, first_request_ms=12.0), "rows_file": str(rows_file)})
    )

    plan = read_plan(plan_file)

    assert (plan.path, plan.judged_share, plan.comparison) == ("/predict/batch", 1.0, None)


class OneAnswer:
    """A service that answers every request with one status, or not at all."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.asked: list[tuple[str, bytes, float | None]] = []

    def get(self, url: str) -> HttpReply:
        raise NotImplementedError

    def post(self, url: str, content: bytes, headers: dict[str, str], *, timeout_s: float | None = None) -> HttpReply:
        self.asked.append((url, content, timeout_s))
        if not self.status:
            raise DeployFailed("no answer")
        return HttpReply(self.status, {}, {})


def test_the_first_request_is_a_prediction_and_is_timed_when_it_was_answered() -> None:
    service = OneAnswer(200)

    took_ms = time_first_request(service, URL, requests()[0], timeout_s=7)

    assert 0 <= took_ms < math.inf
    assert service.asked == [(f"{URL}/predict", b'{"age": 0, "plan": "pro"}', 7)]
    for status in (500, 422, 0):
        assert time_first_request(OneAnswer(status), URL, requests()[0], timeout_s=7) == math.inf


def test_a_first_request_without_an_answer_is_a_no_and_nothing_is_loaded(tmp_path: Path) -> None:
    loads = Answering()

    (found,) = measured(loads, policy(**{"slo.first_request_ms": 500}), tmp_path, first_ms=math.inf)

    assert (found.name, found.verdict, loads.plans) == ("slo.first_request", Verdict.FAILED, [])
    assert found.message.startswith("FAIL: first_request=inf ms > 500 ms (the first one after the deploy was not ")
    assert (found.as_dict()["observed"], found.limit) == (None, 500.0)


def test_a_first_request_without_a_limit_stops_nothing(tmp_path: Path) -> None:
    loads = Answering()

    assert overall(measured(loads, policy(), tmp_path, first_ms=math.inf)) is Verdict.PASSED
    assert "first_request_took_ms" not in loads.plans[0]


def test_a_first_request_that_took_no_time_is_told_as_well() -> None:
    slo = limits(**{"slo.first_request_ms": 500})

    assert plan_for(slo, first_request_ms=0.0)["first_request_took_ms"] == 0.0
