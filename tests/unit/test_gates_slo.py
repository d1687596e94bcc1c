import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from loadtests.plan import read_plan
from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.release import Environment, Release
from pipelines.domain.verdict import Verdict, overall
from pipelines.errors import Undecided
from pipelines.gates.slo import MAX_ROWS, load_plan, measure_slo, results_of
from pipelines.snapshot import Snapshot, SnapshotDescription
from tests.fakes import FakeLoadRunner
from tests.records import policy

RELEASE = Release("trial-e-1", "toy-model", Environment.STAGING, "2", "sha256:b")
URL = "http://127.0.0.1:9"


def check(name: str = "p99", *, verdict: str = "passed", judged: bool = True, **values: Any) -> dict[str, Any]:
    measured = {"observed": 61.0, "interval": [50.0, 70.0], "limit": 100.0, **values}
    return {"name": name, "verdict": verdict, "judged": judged, "message": f"{verdict} {name}", **measured}


def snapshot(rows: int = 3) -> Snapshot:
    features = (Feature("age", FeatureType.INTEGER), Feature("plan", FeatureType.CATEGORY, categories=("pro",)))
    frame = pd.DataFrame({"age": range(rows), "plan": ["pro"] * rows, "churned": ["No"] * rows})
    return Snapshot(frame, SnapshotDescription("toy-model", "churned", "Yes", ("No", "Yes"), features, ()), "sha256:e")


@pytest.mark.parametrize("verdict", ["passed", "failed", "inconclusive", "error", "not_applicable"])
def test_a_judged_check_keeps_its_verdict(verdict: str) -> None:
    (result,) = results_of({"checks": [check(verdict=verdict)]}, demo=False)

    assert result.verdict == verdict
    assert (result.name, result.message) == ("slo.p99", f"{verdict} p99")
    assert (result.observed, result.interval, result.limit) == (61.0, (50.0, 70.0), 100.0)


def test_a_check_that_is_only_shown_stops_nothing_and_says_so() -> None:
    results = results_of({"checks": [check(), check("p50", verdict="failed", judged=False)]}, demo=False)

    assert overall(results) is Verdict.PASSED
    assert results[1].message == "failed p50 (shown, not judged)"


def test_only_shown_checks_make_no_pass_of_their_own() -> None:
    (shown,) = results_of({"checks": [check(judged=False)]}, demo=False)

    assert shown.verdict is Verdict.NOT_APPLICABLE


def test_demo_evidence_is_marked_on_every_line() -> None:
    results = results_of({"checks": [check(), check("errors")]}, demo=True)

    assert all(result.message.endswith("[demo evidence]") for result in results)


def test_a_check_without_numbers_is_taken() -> None:
    (result,) = results_of({"checks": [check(observed=None, interval=None, limit=None)]}, demo=False)

    assert (result.observed, result.interval, result.limit) == (None, None, None)


def test_a_run_that_measured_nothing_is_inconclusive() -> None:
    (result,) = results_of({"checks": []}, demo=False)

    assert result.verdict is Verdict.INCONCLUSIVE


def test_a_run_that_could_not_be_carried_out_is_an_error_not_a_pass(tmp_path: Path) -> None:
    loads = FakeLoadRunner(refusal=Undecided("the load run ended with 2"))

    (result,) = measure_slo(loads, policy(), url=URL, release=RELEASE, snapshot=snapshot(), workdir=tmp_path)

    assert result.verdict is Verdict.ERROR
    assert "ended with 2" in result.message


def test_the_plan_states_the_policy_and_the_version_that_must_answer() -> None:
    plan = load_plan(policy(**{"slo.rate_per_s": 123.5, "slo.timeout_s": 2}), url=URL, version="2")

    assert (plan["host"], plan["path"], plan["expected_version"]) == (URL, "/predict", "2")
    assert (plan["rate_per_s"], plan["timeout_s"], plan["max_in_flight"]) == (123.5, 2.0, 247)
    assert plan["limits"] == [
        {"quantile": 0.95, "limit_ms": 50.0, "judged": True},
        {"quantile": 0.99, "limit_ms": 100.0, "judged": True},
    ]


def test_the_load_runs_own_parser_takes_the_plan(tmp_path: Path) -> None:
    rows_file = tmp_path / "rows.json"
    rows_file.write_text('[{"age": 1}]')

    plan_file = tmp_path / "plan.json"
    plan_file.write_text(json.dumps({**load_plan(policy(), url=URL, version="2"), "rows_file": str(rows_file)}))

    plan = read_plan(plan_file)

    assert (plan.rate_per_s, plan.duration_s, plan.expected_version) == (200.0, 60.0, "2")


def test_the_rows_sent_are_those_of_the_evaluation_set_without_the_answer(tmp_path: Path) -> None:
    sent: list[list[dict[str, Any]]] = []

    class Recording(FakeLoadRunner):
        def run(self, plan: dict[str, Any], rows: list[dict[str, Any]], workdir: Path) -> Any:
            sent.append(rows)
            return super().run(plan, rows, workdir)

    loads = Recording({"checks": [check()]})
    results = measure_slo(loads, policy(), url=URL, release=RELEASE, snapshot=snapshot(MAX_ROWS + 5), workdir=tmp_path)

    assert overall(results) is Verdict.PASSED
    assert len(sent[0]) == MAX_ROWS
    assert sent[0][0] == {"age": 0, "plan": "pro"}
