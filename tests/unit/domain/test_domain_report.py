import json
import math
from pathlib import Path

import pytest

from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.report import VERSION, Report
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import UsageError
from tests.support.world.records import policy, report

STORED = json.loads((Path(__file__).parent / "stored" / "report.1.json").read_text())


def test_a_report_stored_before_is_read_and_keeps_its_digest() -> None:
    read = Report.read(STORED["body"])

    assert read.digest == digest_of(canonical(STORED["body"])) == STORED["digest"]
    assert (read.version, read.verdict, read.champion.version if read.champion else None) == ("2", "passed", "1")
    assert [gate.name for gate in read.gates][:2] == ["digest", "artifact_safety"]


def test_a_report_of_a_newer_version_is_refused_with_both_versions() -> None:
    with pytest.raises(UsageError, match=f"is of version {VERSION + 1}, and this Slipway reads {VERSION} at most"):
        Report.read({**report(policy=policy()), "schema_version": VERSION + 1})


@pytest.mark.parametrize("change", [{"verdict": "good"}, {"gates": None}, {"extra": 1}, {"schema_version": None}])
def test_what_is_no_report_is_refused_by_its_key(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=f"a report can't be read: {next(iter(change))}"):
        Report.read({**report(policy=policy()), **change})


def test_numbers_that_json_does_not_know_leave_a_report_that_can_be_kept() -> None:
    gates = (GateResult("slo.first_request", Verdict.FAILED, "FAIL: inf", math.inf, (math.nan, 1.0), 500),)
    (kept,) = report(policy=policy(), gates=gates)["gates"]

    assert (kept["observed"], kept["interval"], kept["limit"]) == (None, None, 500)
