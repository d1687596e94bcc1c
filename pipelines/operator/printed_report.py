"""A report on a terminal: its first screen in words, and its gates as a table."""

from collections.abc import Iterable

from pipelines.domain.report import Report
from pipelines.domain.verdict import GateResult
from pipelines.evaluation.reports.summary import class_name, metric_name, summary_of
from pipelines.operator.tables import render

_GATES = ("gate", "verdict", "observed", "interval", "limit", "message")


def printed_report(report: Report, digest: str) -> str:
    """Return what a person decides by, every gate, and what was frozen."""
    summary = summary_of(report)
    risk = [f"  {summary.risk.name}: {summary.risk.message}"] if summary.risk else []
    lines = [
        f"{report.model} version {report.version}: {_words(report.verdict)}",
        "",
        f"may it go to production?  {summary.may_go}",
        "the riskiest thing:",
        *risk,
        f"  {summary.why}",
        "what changes for users:",
        *(f"  {each}" for each in summary.changes),
        "",
        render(_GATES, (_row(gate) for gate in report.gates)),
        *_metrics(report),
        *_moves(report),
        "",
        *_frozen(report, digest),
    ]
    return "\n".join(lines)


def compared_reports(report: Report, other: Report) -> str:
    """Return the gates of two reports side by side, after what they were not both measured by."""
    mine, theirs = ({gate.name: gate for gate in each.gates} for each in (report, other))
    names = list(dict.fromkeys([*mine, *theirs]))
    columns = ("gate", f"v{report.version}", f"v{other.version}", "observed", "", "difference")
    rows = [_beside(name, mine.get(name), theirs.get(name)) for name in names]
    kinds = {
        "evaluation set": "evalset_digest",
        "policy": "policy_digest",
        "profile": "profile",
        "code of the gates": "gates_digest",
        "release to compare with": "champion",
    }
    unlike = [kind for kind, key in kinds.items() if getattr(report, key) != getattr(other, key)]
    told = f"not measured alike: another {', another '.join(unlike)}\n" if unlike else ""
    return f"version {report.version} beside version {other.version}\n{told}{render(columns, rows)}"


def _beside(name: str, mine: GateResult | None, theirs: GateResult | None) -> tuple[str, ...]:
    ours, others = (each.observed if each else None for each in (mine, theirs))
    difference = f"{ours - others:+.4g}" if ours is not None and others is not None else ""
    verdicts = (_words(each.verdict) if each else "not measured" for each in (mine, theirs))
    return name, *verdicts, _number(ours), _number(others), difference


def _row(gate: GateResult) -> tuple[str, ...]:
    interval = f"{gate.interval[0]:.4g} to {gate.interval[1]:.4g}" if gate.interval else ""
    verdict = _words(gate.verdict) + (" (warns only)" if gate.warn_only else "")
    return gate.name, verdict, _number(gate.observed), interval, _number(gate.limit), gate.message


def _metrics(report: Report) -> Iterable[str]:
    if report.figures is None or not report.figures.metrics:
        return
    versus = report.figures.versus
    beside = {each.metric: each for each in versus.metrics} if versus else {}
    rows = []
    for each in report.figures.metrics:
        both = beside.get(each.metric)
        shared = (f"{both.candidate:.4g}", f"{both.champion:.4g}") if both else ("", "")
        rows.append((metric_name(each.metric), f"{each.value:.4g}", *shared))
    columns = ("metric", f"on {report.figures.rows:,} rows", "on shared rows", "production there")
    yield ""
    yield render(columns, rows)


def _moves(report: Report) -> Iterable[str]:
    versus = report.figures.versus if report.figures else None
    if versus is None or not versus.moves:
        return
    names = report.classes or ()
    rows = [(class_name(names, each.before), class_name(names, each.after), f"{each.rows:,}") for each in versus.moves]
    yield ""
    yield render(("production answers", "this version answers", "rows"), rows)


def _frozen(report: Report, digest: str) -> Iterable[str]:
    number = f" (set {report.evalset_number} of the model)" if report.evalset_number else ""
    yield f"report          {digest}"
    yield f"bundle          {report.bundle_digest}"
    yield f"policy          {report.policy_digest} ({report.profile})"
    yield f"evaluation set  {report.evalset_digest}{number}"
    yield f"gates           {report.gates_digest or 'not recorded'}"
    champion = report.champion
    yield f"compared with   {f'v{champion.version}, release {champion.release}' if champion else 'nothing'}"
    yield f"written         {report.created_at}"


def _words(verdict: str) -> str:
    return verdict.replace("_", " ")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
