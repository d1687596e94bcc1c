"""What a load plan must be before anything is sent, its schedule, and what its report may contain."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtests.generator.schedule import course_offsets
from loadtests.judge.comparison import judge_comparison
from loadtests.judge.slo import judge, with_comparison
from loadtests.judge.verdict import Check, Verdict
from loadtests.plan.plan import Arrivals, ComparisonPlan, Limit, PlanError, Via
from loadtests.plan.reading import read_plan
from loadtests.plan.shapes import STEADY, Course, Shape, ShapeKind
from loadtests.report.report import render
from loadtests.run import main
from loadtests.runner.blocks import Ratio
from loadtests.runner.result import as_json, of_judgement, without_judgement
from tests.unit.loadtests.test_slo import CONTROL, latencies, look_of, plan_of
from tests.unit.loadtests.test_slo_comparison import blocks_like

LIMIT = {"quantile": 0.99, "limit_ms": 100, "judged": True}
COMPARISON = {
    "host": "http://127.0.0.1:2",
    "expected_version": "5",
    "blocks": 100,
    "block_s": 1,
    "warmup_s": 0.2,
    "margin": 1.1,
    "tolerance_ms": 0.5,
}


def plan_data(directory: Path, **changes: Any) -> dict[str, Any]:
    rows = directory / "rows.json"
    if not rows.exists():
        rows.write_text('[{"tenure": 1}]')
    return {
        "host": "http://127.0.0.1:1",
        "path": "/predict",
        "rate_per_s": 200,
        "warmup_s": 5,
        "duration_s": 20,
        "arrivals": "poisson",
        "seed": 1,
        "timeout_s": 5,
        "max_in_flight": 200,
        "workers": 1,
        "expected_version": "6",
        "rows_file": str(rows),
        "limits": [LIMIT],
        "max_error_rate": 0.005,
        "max_stall_s": 1.0,
        "extension": True,
    } | changes


def write(directory: Path, data: Any) -> Path:
    path = directory / "plan.json"
    path.write_text(json.dumps(data))
    return path


def test_a_plan_is_read_as_written(tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path, plan_data(tmp_path)))
    assert plan.arrivals is Arrivals.POISSON
    assert plan.limits == (Limit(0.99, 100, judged=True),)
    assert (plan.looks, plan.alpha) == (2, 0.025)
    assert (plan.first_request_ms, plan.comparison) == (None, None)


def test_a_comparison_and_a_limit_on_the_first_request_are_read_where_they_are_given(tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path, plan_data(tmp_path, comparison=COMPARISON, first_request_ms=1000)))
    assert plan.comparison == ComparisonPlan("http://127.0.0.1:2", "5", 100, 1, 0.2, margin=1.1, tolerance_ms=0.5)
    assert plan.first_request_ms == 1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": 1}, "plan has unknown keys: ratio"),
        ({"limits": [LIMIT | {"unit": "ms"}]}, "limits[0] has unknown keys: unit"),
        ({"limits": [{"quantile": 0.9}]}, "limits[0] has missing keys: judged, limit_ms"),
        ({"limits": []}, "no limit is judged"),
        ({"limits": [LIMIT | {"judged": False}]}, "no limit is judged"),
        ({"limits": [LIMIT, LIMIT]}, "a quantile has two limits"),
        ({"limits": [LIMIT | {"limit_ms": 0}]}, "limits[0]: limit_ms is 0, must be above 0"),
        ({"limits": [LIMIT | {"limit_ms": 5000}]}, "p99 <= 5000 ms must be below timeout_s"),
        (
            {"limits": [LIMIT | {"quantile": 1}]},
            "limits[0]: quantile is 1, must be between 0 and 1, and 1e-09",
        ),
        ({"duration_s": 9}, "duration_s is 9, must be 10 or more"),
        ({"rate_per_s": 10}, "p99 needs at least 368 requests, 10 req/s x 20 s gives 200"),
        (
            {"rate_per_s": 10, "extension": False},
            "p99 needs at least 299 requests, 10 req/s x 20 s gives 200",
        ),
        (
            {"duration_s": 1},
            "duration_s is 1, must be 10 or more; p99 needs at least 368 requests, 200 req/s x 1 s gives 200",
        ),
        ({"duration_s": 0}, "duration_s is 0, must be above 0"),
        (
            {"rate_per_s": 20, "shape": {"kind": "ramp", "low": 0.5}},
            "p99 needs at least 368 requests, 20 req/s x 20 s as a ramp gives 300",
        ),
        (
            {"rate_per_s": 20, "mix": {"single": 3, "batch": 1}},
            "p99 needs at least 368 requests, 20 req/s x 20 s, 75% of them to /predict, gives 300",
        ),
        ({"mix": {"batch": 1}}, "0% of them to /predict, gives 0"),
        ({"mix": {"robot": 1}}, "mix: 'robot' is not single, batch or mistaken"),
        ({"mix": {"single": True}}, "mix: single is True, not a valid number"),
        ({"mix": {}}, "mix is {}, must not be empty"),
        ({"mix": "single=9"}, "mix is 'single=9', not a JSON object"),
        ({"mix": []}, "mix is [], not a JSON object"),
        ({"shape": {"kind": "zigzag"}}, "shape: kind is 'zigzag', not steady, ramp, spike, soak or step"),
        ({"shape": "zigzag"}, "shape: kind is 'zigzag', not steady, ramp, spike, soak or step"),
        ({"shape": 5}, "shape is not a JSON object"),
        ({"via": "tunnel"}, "via is 'tunnel', not edge or direct"),
        ({"max_error_rate": 0.0001}, "errors <= 0.01 % needs at least 36,887 requests"),
        ({"max_error_rate": 0}, "max_error_rate is 0, must be between 0 and 1"),
        ({"rate_per_s": "200"}, "rate_per_s is '200', not a valid number"),
        ({"rate_per_s": float("inf")}, "rate_per_s is inf, not a valid number"),
        ({"rate_per_s": True}, "rate_per_s is True, not a valid number"),
        ({"seed": 1.5}, "seed is 1.5, not a valid integer"),
        ({"extension": 1}, "extension is 1, not a valid true or false"),
        ({"arrivals": "bursty"}, "arrivals is 'bursty', not poisson or fixed"),
        ({"host": "127.0.0.1:80"}, "not an http URL of a host"),
        ({"expected_version": ""}, "expected_version is '', must not be empty"),
        ({"workers": 0}, "workers is 0, must be 1 or more"),
        ({"workers": 201}, "workers must be from 1 to max_in_flight"),
        ({"join": {"port": 5557}}, "join has missing keys: wait_s"),
        ({"join": {"port": 65536, "wait_s": 60}}, "join: port is 65536, must be at most 65,535"),
        ({"join": {"port": 5557, "wait_s": 0}}, "join: wait_s is 0, must be above 0"),
        ({"rate_per_s": 10**400}, "not a valid number"),
        ({"limits": LIMIT}, "not a JSON list"),
        ({"limits": [1]}, "limits[0] is not a JSON object"),
        (
            {"limits": [LIMIT | {"quantile": 0.999}], "duration_s": 18},
            "p99.9 needs at least 3,688 requests, 200 req/s x 18 s gives 3,600",
        ),
        (
            {"limits": [LIMIT | {"quantile": 0.999}], "duration_s": 14, "extension": False},
            "p99.9 needs at least 2,995 requests, 200 req/s x 14 s gives 2,800",
        ),
        ({"first_request_ms": 0}, "first_request_ms is 0, must be above 0"),
        ({"first_request_ms": 5000}, "first_request_ms is 5000, must be below timeout_s"),
        ({"first_request_ms": None}, "first_request_ms is None, leave it out instead"),
        ({"comparison": None}, "comparison is None, leave it out instead"),
        ({"comparison": 5}, "comparison is not a JSON object"),
        ({"comparison": {"host": "http://127.0.0.1:2"}}, "comparison has missing keys: block_s, blocks, expected"),
        ({"comparison": COMPARISON | {"champion": "5"}}, "comparison has unknown keys: champion"),
        ({"comparison": COMPARISON | {"blocks": 9}}, "comparison: blocks is 9, must be 10 or more"),
        ({"comparison": COMPARISON | {"blocks": 10.5}}, "comparison: blocks is 10.5, not a valid integer"),
        (
            {"comparison": COMPARISON | {"block_s": 0.4}},
            "comparison: p99 needs at least 100 requests in a block, 200 req/s x 0.4 s gives 80",
        ),
        ({"comparison": COMPARISON | {"margin": 1}}, "comparison: margin is 1, must be above 1"),
        ({"comparison": COMPARISON | {"margin": 2.1}}, "comparison: margin is 2.1, must be at most 2"),
        ({"comparison": COMPARISON | {"tolerance_ms": -1}}, "comparison: tolerance_ms is -1, must be 0 or more"),
        ({"comparison": COMPARISON | {"tolerance_ms": 100}}, "comparison: tolerance_ms is 100, must be below 100 ms"),
        ({"comparison": COMPARISON | {"warmup_s": -1}}, "comparison: warmup_s is -1, must be 0 or more"),
        (
            {"comparison": COMPARISON | {"expected_version": ""}},
            "comparison: expected_version is '', must not be",
        ),
        ({"comparison": COMPARISON | {"host": "champion"}}, "comparison: host is 'champion', not an http URL"),
        ({"comparison": COMPARISON | {"host": "http://127.0.0.1:1"}}, "'http://127.0.0.1:1' is the candidate's own"),
        ({"comparison": COMPARISON | {"host": "http://127.0.0.1:99999"}}, "not an http URL of a host"),
        ({"comparison": COMPARISON | {"blocks": 20_000}}, "blocks is 20000, must be at most 10,000"),
        ({"comparison": COMPARISON | {"block_s": 1e308}}, "block_s is 1e+308, must be at most 86,400"),
        ({"host": "http://127.0.0.1:99999"}, "host is 'http://127.0.0.1:99999', not an http URL"),
        ({"host": "http://127.0.0.1:x"}, "not an http URL of a host"),
        ({"host": "http://[::1"}, "not an http URL of a host"),
        ({"host": "http://a..b:80"}, "not an http URL of a host"),
        ({"host": "http://127.0.0.1:1/sub"}, "not an http URL of a host"),
        ({"host": "http://127.0.0.1:1\n"}, "not an http URL of a host"),
        ({"path": "/prédict"}, "path is '/prédict', must start with / and be ASCII without spaces"),
        ({"path": "/pre dict"}, "path is '/pre dict', must start with / and be ASCII without spaces"),
        ({"mix": {"single": 10**400, "batch": 0.5}}, "not a valid number"),
        ({"mix": {"single": 1e308, "batch": 1e308}}, "mix: single is 1e+308, must be at most 1,000,000,000"),
        ({"rate_per_s": 1e308}, "rate_per_s is 1e+308, must be at most 1,000,000"),
        ({"duration_s": 1e308}, "duration_s is 1e+308, must be at most 86,400"),
        ({"timeout_s": 1e308}, "timeout_s is 1e+308, must be at most 86,400"),
        ({"limits": [LIMIT | {"quantile": 1e-20}]}, "quantile is 1e-20, must be between 0 and 1, and 1e-09 off both"),
        ({"max_error_rate": 1e-310}, "max_error_rate is 1e-310, must be between 0 and 1, and 1e-09 off both"),
        ({"shape": '{"kind": ' * 100_000}, "not steady, ramp, spike, soak or step"),
    ],
)
def test_a_plan_that_can_not_be_run_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError) as refusal:
        read_plan(write(tmp_path, plan_data(tmp_path, **changes)))
    assert message in str(refusal.value)


def test_a_plan_nested_too_deep_to_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text("[" * 200_000)
    with pytest.raises(PlanError, match="can't be read"):
        read_plan(path)


@pytest.mark.parametrize("host", ["http://localhost", "https://[::1]:8443", "http://127.0.0.1:80/"])
def test_a_host_is_a_name_or_an_address(tmp_path: Path, host: str) -> None:
    assert read_plan(write(tmp_path, plan_data(tmp_path, host=host))).host == host


@pytest.mark.parametrize("rows", ["[]", "{}", "[1]", "not json"])
def test_rows_that_can_not_be_sent_are_refused(tmp_path: Path, rows: str) -> None:
    (tmp_path / "rows.json").write_text(rows)
    with pytest.raises(PlanError, match="rows_file"):
        read_plan(write(tmp_path, plan_data(tmp_path)))


def test_a_refused_plan_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, plan_data(tmp_path, duration_s=1))
    assert main(["--plan", str(path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: plan: duration_s is 1")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", range(20))
def test_fixed_arrivals_begin_within_the_first_gap(seed: int) -> None:
    course = Course(STEADY, rate_per_s=200, warmup_s=0, duration_s=np.inf)
    assert 0 <= next(course_offsets(Arrivals.FIXED, course, np.random.default_rng(seed))) < 1 / 200


@pytest.mark.parametrize("kind", list(Arrivals))
def test_arrivals_keep_their_rate_and_repeat_by_seed(kind: Arrivals) -> None:
    def first(n: int, seed: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        course = Course(STEADY, rate_per_s=200, warmup_s=0, duration_s=np.inf)
        offsets = course_offsets(kind, course, np.random.default_rng(seed))
        return np.array([next(offsets) for _ in range(n)])

    offsets = first(20_000, 1)
    assert np.all(np.diff(offsets) > 0)
    assert offsets[-1] == pytest.approx(100, rel=0.05)
    assert np.array_equal(offsets, first(20_000, 1))
    assert not np.array_equal(offsets, first(20_000, 2))
    gaps_ms = np.diff(offsets) * 1000
    assert gaps_ms.std() == pytest.approx(5 if kind is Arrivals.POISSON else 0, abs=0.3)


def test_what_a_plan_leaves_out_is_steady_and_single(tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path, plan_data(tmp_path)))
    assert (plan.shape.kind, plan.shares, plan.via) == ("steady", (("single", 1.0),), None)
    changes = {"shape": {"kind": "spike", "low": 0.5}, "mix": {"single": 4, "mistaken": 1}, "via": "edge"}
    plan = read_plan(write(tmp_path, plan_data(tmp_path, **changes)))
    assert (plan.shape, plan.via) == (Shape(ShapeKind.SPIKE, low=0.5), "edge")
    assert plan.shares == (("single", 0.8), ("mistaken", 0.2))
    assert plan.planned_requests == 2400


def test_a_report_draws_the_run_its_stall_its_windows_and_the_comparison(tmp_path: Path) -> None:
    latency_ms = latencies(12_000, 200, slow_ms=30)
    latency_ms[6_000:6_500] = np.linspace(2_500, 5, 500)
    latency_ms[9_000] = np.inf
    champion = ComparisonPlan("http://127.0.0.1:2", "5", blocks=10, block_s=10, warmup_s=1, margin=1.1, tolerance_ms=0)
    plan = plan_of(comparison=champion, via=Via.EDGE, extension=True)
    looks = [look_of(latency_ms), look_of(latencies(12_000, 0))]
    judgement = with_comparison(judge(plan, looks, CONTROL), judge_comparison(plan, []))
    result = of_judgement(plan, "now", looks=looks, judgement=judgement, raws=[])
    result = replace(result, blocks=tuple(Ratio(number, 6.0, 5.0, 1.2) for number in range(1, 11)))
    page = render(plan, result, looks)
    assert page.count("<svg") == 4
    assert "no reply for 2.50 s" in page
    assert "path measured: edge" in page
    assert "limit 1.1<" in page
    assert "p99 &lt;= 100 ms" in page
    assert page.count("<tr><td>2</td>") + page.count("<tr>\n<td>2</td>") >= 12
    assert not re.search(r"(?:src|href)=|<script|url\(|nan", page)


def test_a_report_draws_the_limit_that_the_comparison_was_judged_by() -> None:
    plan, looks = plan_of(), [look_of(latencies(12_000, 0))]
    check = judge_comparison(plan, blocks_like(2.4, 2.0))
    assert (check.verdict, check.limit) == (Verdict.PASSED, 1.25)
    result = of_judgement(
        plan, "now", looks=looks, judgement=with_comparison(judge(plan, looks, CONTROL), check), raws=[]
    )
    page = render(plan, replace(result, blocks=(Ratio(1, 2.4, 2.0, 1.2),)), looks)
    assert "limit 1.25<" in page
    assert "limit 1.1<" not in page


def test_a_report_escapes_what_the_target_says(tmp_path: Path) -> None:
    plan = replace(read_plan(write(tmp_path, plan_data(tmp_path))), expected_version="<script>1</script>")
    check = Check("versions", Verdict.INCONCLUSIVE, None, None, 'serves "<img src=x onerror=alert(1)>"')
    result = without_judgement(plan, "2026-01-01T00:00:00+00:00", check)
    page = render(plan, result, ())
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;img" in page


def test_a_result_is_strict_json_even_where_a_quantile_is_infinite(tmp_path: Path) -> None:
    plan = read_plan(write(tmp_path, plan_data(tmp_path)))
    check = Check("p99", Verdict.FAILED, float("inf"), 100, "FAIL: p99=inf ms > 100 ms", (12.0, float("inf")))
    written = json.loads(as_json(without_judgement(plan, "2026-01-01T00:00:00+00:00", check)))
    assert written["verdict"] == "failed"
    assert written["checks"][0]["observed"] is None
    assert written["checks"][0]["interval"] == [12.0, None]
