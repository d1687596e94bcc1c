"""What people read of a report: the page, the summary in the version's description, and the model card.

Every value is escaped, and of characters that people see: a stranger's text stays text, in HTML as in Markdown.
"""

import base64
import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipelines.domain.card import CARD_TAGS, MOST_CARD_CHARS
from pipelines.domain.description import Description
from pipelines.domain.report import Report
from pipelines.domain.texts import one_line, printable
from pipelines.evaluation.reports.plots import Load, Plot, draw_plots
from pipelines.evaluation.reports.summary import class_name, metric_name, summary_of

# Between these stands Slipway's part of a description; what stands around it is a person's.
_BEGIN, _END = "<!-- slipway: report -->", "<!-- slipway: end of report -->"
_OURS = re.compile(rf"{re.escape(_BEGIN)}.*?{re.escape(_END)}|{re.escape(_BEGIN)}|{re.escape(_END)}", re.DOTALL)
# MLflow's own limit.
_MOST_DESCRIPTION_CHARS = 5000
_TEMPLATES = Path(__file__).parent / "templates"
# What begins something anywhere in a line, what does so at its beginning, and what makes an address a link.
_MARKUP = re.compile(r"[\\`*_\[\]|~]|:(?=//)|(?<=www)\.", re.IGNORECASE)
_BEGINNING = re.compile(r"^(\s*(?:\d+(?=[.)]))?)([#+=.)-])")
_SUMMARY_CHARS = 400


def render_html(report: Report, report_digest: str, loads: Mapping[str, Load] | None = None) -> str:
    """Return a page of a report that needs nothing else: no other file, no script, no font.

    `loads` says what else is known of its load runs.
    """
    plots = draw_plots(report, loads or {})
    return _rendered("report.html", report, report_digest, plots=plots, source=_source, class_name=class_name)


def render_summary(report: Report, report_digest: str) -> str:
    """Return the first screen of a report as Markdown without tables, which MLflow shows none of in a description."""
    return _rendered("summary.md", report, report_digest)


def render_card(report: Report, report_digest: str, bundle: Description, said: Mapping[str, str]) -> str:
    """Return the model card as Markdown; `said` are the tags of the version's run, whoever has set them."""
    told = {key: one_line(said.get(tag, "").strip(), MOST_CARD_CHARS) for key, tag in CARD_TAGS.items()}
    return _rendered("model-card.md", report, report_digest, bundle=bundle, told=told)


def described(description: str, summary: str) -> str:
    """Return a version's description with the summary in place of the one of before, whatever a person has written.

    Where both together are more than MLflow takes, it is the person's alone. What follows a mark without its other one
    may be a person's, and stays.
    """
    kept = _OURS.sub("", description).strip()
    ours = f"{_BEGIN}\n{summary.strip()}\n{_END}"
    together = f"{kept}\n\n{ours}" if kept else ours
    return together if len(together) <= _MOST_DESCRIPTION_CHARS else kept


def _rendered(template: str, report: Report, report_digest: str, **more: Any) -> str:
    is_page = template.endswith(".html")
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=is_page,
        finalize=_printable if is_page else _plain,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "metric": metric_name, "short": _short}
    told = {"report": report, "report_digest": report_digest, "summary": summary_of(report), **more}
    return environment.get_template(template).render(told)


def _printable(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _plain(value: Any) -> Any:
    """Return a text as Markdown that shows it as it is, in one line."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    escaped = _MARKUP.sub(r"\\\g<0>", html.escape(one_line(value), quote=False))
    return _BEGINNING.sub(r"\1\\\2", escaped)


def _short(value: str) -> str:
    return one_line(value, _SUMMARY_CHARS)


def _number(value: float | None) -> Markup:
    if value is None:
        return Markup("")
    # What counts something is shown whole.
    return Markup(f"{value:,}" if isinstance(value, int) and abs(value) < 1e15 else f"{value:.4g}")


def _source(plot: Plot) -> Markup:
    """Return a drawing as the address of an image: what stands in it is no part of the page, and runs nothing."""
    return Markup(f"data:image/svg+xml;base64,{base64.b64encode(plot.svg.encode()).decode()}")
