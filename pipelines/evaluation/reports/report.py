"""The report of an evaluation: what was measured, frozen, and the same facts as a page for people."""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipelines.domain.records import ReleaseRecord
from pipelines.domain.report import Compared, Report
from pipelines.domain.texts import printable
from pipelines.domain.verdict import GateResult, overall
from pipelines.evaluation.subject import Subject

_TEMPLATES = Path(__file__).parent / "templates"


def build_report(
    subject: Subject, *, results: Sequence[GateResult], champion: ReleaseRecord | None, created_at: str
) -> Report:
    """Return the report of what the gates found of `subject`."""
    return Report(
        model=subject.model,
        version=subject.version,
        bundle_digest=subject.bundle_digest,
        policy_digest=subject.policy.digest,
        profile=subject.policy.profile,
        evalset_digest=subject.evalset_digest,
        evalset_version=subject.evalset_version,
        champion=Compared(release=champion.id, version=champion.version, bundle_digest=champion.bundle_digest)
        if champion
        else None,
        gates=tuple(results),
        verdict=overall(results),
        created_at=created_at,
    )


def render_html(report: Report, report_digest: str) -> str:
    """Return a self-contained page of a report; every value in it is escaped, and of characters that people see."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=lambda value: printable(value) if isinstance(value, str) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("report.html").render(report=report, report_digest=report_digest)
