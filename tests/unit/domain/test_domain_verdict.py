import json
import math

import pytest

from pipelines.domain.bundle import canonical
from pipelines.domain.verdict import GateResult, Table, Verdict, overall

P, F, H, E, N = Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.ERROR, Verdict.NOT_APPLICABLE


def results(*verdicts: Verdict) -> list[GateResult]:
    return [GateResult(f"gate{number}", verdict, "") for number, verdict in enumerate(verdicts)]


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ((), H),
        ((P,), P),
        ((N,), P),
        ((P, N), P),
        ((P, H), H),
        ((P, H, E), E),
        ((P, H, E, F), F),
        ((F, P), F),
        ((E, P), E),
        ((H, N), H),
    ],
)
def test_the_worst_verdict_is_the_reports(verdicts: tuple[Verdict, ...], whole: Verdict) -> None:
    assert overall(results(*verdicts)) is whole


@pytest.mark.parametrize("verdict", [F, H, E])
def test_what_only_warns_stops_nothing(verdict: Verdict) -> None:
    warning = GateResult("accuracy", verdict, "WARN", warn_only=True)

    assert overall([warning]) is P
    assert overall([warning, *results(H)]) is H
    assert warning.goes_on and not GateResult("accuracy", verdict, "FAIL").goes_on


def test_a_table_is_shown_in_short_lines_and_within_bounds() -> None:
    table = Table(("slice\n", "rows"), tuple(("x" * 500 if row else "a\x1b[31m", row, row) for row in range(100)))
    shown = GateResult("slices", P, "PASS\r\n", table=table).printable()

    assert shown.message == "PASS\\r\\n"
    assert shown.table is not None and shown.table.columns == ("slice\\n", "rows")
    assert len(shown.table.rows) == 60 and {len(row) for row in shown.table.rows} == {2}
    assert shown.table.rows[0] == ("a\\x1b[31m", 0)
    assert all(len(str(row[0])) <= 200 for row in shown.table.rows)


@pytest.mark.parametrize("verdict", list(Verdict))
def test_only_passed_and_not_applicable_go_on(verdict: Verdict) -> None:
    assert verdict.goes_on is (verdict in (P, N))


def test_an_override_leaves_out_a_gate_with_all_its_parts_and_no_other() -> None:
    measured = [GateResult("slo.p99", F, ""), GateResult("slo.errors", E, ""), GateResult("accuracy", P, "")]

    assert overall(measured, overridden=frozenset({"slo"})) is P
    assert overall(measured, overridden=frozenset({"accuracy"})) is F
    assert overall(measured, overridden=frozenset({"slo.p99"})) is F


def test_overriding_all_that_was_measured_is_not_a_pass() -> None:
    assert overall([GateResult("accuracy", F, "")], overridden=frozenset({"accuracy"})) is H


@pytest.mark.parametrize(
    "result",
    [
        GateResult("accuracy", P, "PASS", observed=0.8, interval=(0.7, 0.9), limit=0.5),
        GateResult("digest", F, "FAIL"),
        GateResult("slices", F, "WARN", 0.1, margin=0.05, warn_only=True, table=Table(("a", "b"), (("x", 0.5),))),
    ],
)
def test_a_result_comes_back_from_json_as_it_was(result: GateResult) -> None:
    assert GateResult.from_dict(json.loads(json.dumps(result.as_dict()))) == result


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_know_still_makes_a_report(number: float) -> None:
    body = GateResult("parity", F, f"FAIL: parity={number}", observed=number, interval=(number, 1.0)).as_dict()

    assert canonical(body)
    assert body["observed"] is None
    assert body["message"] == f"FAIL: parity={number}"


def test_what_results_did_not_say_at_first_is_left_out_where_it_says_nothing() -> None:
    assert set(GateResult("digest", P, "PASS").as_dict()) == {
        "name",
        "verdict",
        "message",
        "observed",
        "interval",
        "limit",
    }
