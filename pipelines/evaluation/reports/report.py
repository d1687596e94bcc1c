"""The report of an evaluation: frozen facts as JSON, and the same facts as a page for people."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipelines.domain.policy import Policy
from pipelines.domain.records import ReleaseRecord
from pipelines.domain.verdict import GateResult, overall

SCHEMA_VERSION = 1
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Reported:
    """The version a report speaks of, and the digests of what was measured and on what."""

    model: str
    version: str
    bundle_digest: str
    evalset_digest: str


def build_report(
    subject: Reported,
    *,
    results: list[GateResult],
    policy: Policy,
    champion: ReleaseRecord | None,
    created_at: str,
) -> dict[str, Any]:
    """Return the report; its verdict counts every gate, whatever was overridden."""
    compared = None
    if champion:
        compared = {
            "release": champion.id,
            "version": champion.version,
            "bundle_digest": champion.bundle_digest,
        }
    return {
        "schema_version": SCHEMA_VERSION,
        "model": subject.model,
        "version": subject.version,
        "bundle_digest": subject.bundle_digest,
        "policy_digest": policy.digest,
        "profile": str(policy.profile),
        "evalset_digest": subject.evalset_digest,
        "champion": compared,
        "gates": [result.as_dict() for result in results],
        "verdict": str(overall(results)),
        "created_at": created_at,
    }


def render_html(report: dict[str, Any], report_digest: str) -> str:
    """Return a self-contained page of a report; every value in it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(report=report, report_digest=report_digest)
