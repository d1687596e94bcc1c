"""The page of a report shows what it was given as text, whatever that is."""

from pipelines.domain.report import Report
from pipelines.domain.sections import Profile
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.reports.report import render_html

HIDING = "\x1b[2K\u202egood"
HOSTILE = "<script>alert('x')</script>"


def test_nothing_in_a_report_becomes_markup() -> None:
    report = Report(
        model="toy-model",
        version="1",
        bundle_digest="sha256:b",
        policy_digest="sha256:p",
        profile=Profile.FULL,
        evalset_digest="sha256:e",
        champion=None,
        gates=(GateResult("smoke", Verdict.FAILED, f"FAIL: smoke: got {HOSTILE}{HIDING}"),),
        verdict=Verdict.FAILED,
        created_at="2026-11-28T00:00:00+00:00",
    )
    page = render_html(report, "sha256:r")
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert HIDING not in page
    assert r"\x1b[2K\u202egood" in page
