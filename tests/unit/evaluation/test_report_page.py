"""The pages of a report show what they were given as text, whatever that is, and need nothing else."""

import json
import re
from base64 import b64decode
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from pipelines.domain.description import Description, Task
from pipelines.domain.figures import (
    MOST_CLASSES,
    MOST_LINES,
    MOST_POINTS,
    Bin,
    Confusion,
    Difference,
    Figures,
    Histogram,
    Line,
    Measured,
    Metric,
    Move,
    Versus,
)
from pipelines.domain.report import Breaking, Compared, Report
from pipelines.domain.sections import Profile
from pipelines.domain.verdict import GateResult, Table, Verdict
from pipelines.evaluation.reports.pages import described, render_card, render_html, render_summary
from pipelines.evaluation.reports.plots import read_loads
from tests.support.world.bundles import make_bundle, read_description

HIDING = "\x1b[2K\u202egood"
HOSTILE = "<script>alert('x')</script><img src=http://evil.example/x onerror=1>"
ALL = f"{HOSTILE}{HIDING}]]> $x^2$ \N{SNOWMAN}\uffff \u4e2d & | * _ `"
LINE = Line(x=(0.0, 0.5, 1.0), y=(0.0, 0.8, 1.0))


def report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "model": "toy-model",
        "version": "2",
        "bundle_digest": "sha256:b",
        "policy_digest": "sha256:p",
        "profile": Profile.FULL,
        "evalset_digest": "sha256:e",
        "champion": None,
        "gates": (GateResult("smoke", Verdict.FAILED, f"FAIL: smoke: got {ALL}"),),
        "verdict": Verdict.FAILED,
        "created_at": "2026-11-28T00:00:00+00:00",
    }
    return Report(**{**values, **changes})


def versus(**changes: Any) -> Versus:
    return Versus(
        rows=100, changed=4, better=3, worse=1, mean_shift=0.01, moves=(Move(before=0, after=1, rows=4),),
        metrics=(Difference(metric=Metric.AUC, candidate=0.81, champion=0.8),), roc=LINE,
        scores=Histogram(edges=(0.0, 0.5, 1.0), candidate=(60, 40), champion=(58, 42)), **changes,
    )  # fmt: skip


def drawn(**changes: Any) -> Report:
    """Return a report in which everything is drawn, and a stranger has named all that can be named."""
    lines = tuple(Line(position=each, x=LINE.x, y=LINE.y) for each in range(3))
    figures = Figures(
        rows=120,
        metrics=(Measured(metric=Metric.ACCURACY, value=0.8),),
        roc=lines,
        precision_recall=lines,
        calibration=(Bin(said=0.1, so=0.2, rows=10), Bin(said=0.9, so=0.8, rows=30)),
        confusion=Confusion(positions=(0, 1), counts=((30, 5), (0, 0))),
        values=Line(x=(1.0, 1.0), y=(1.0, 1.0)),
        residuals=Histogram(edges=(-1.0, 0.0, 1.0), candidate=(3, 4)),
        versus=versus(),
    )
    slices = Table(("slice", "rows", "gap"), ((ALL, 40, -0.2), ("b", 50, None), ("c", 60, 0.1)))
    gates = (
        GateResult("slices", Verdict.PASSED, f"PASS {ALL}", -0.2, (-0.3, -0.1), -0.25, 0.05, table=slices),
        GateResult("drift", Verdict.PASSED, "PASS", table=Table((ALL,), ((ALL,),))),
        GateResult("slo.p95", Verdict.PASSED, "PASS p95", 9.0, (8.0, 10.0), 50.0),
        GateResult("slo.p99.9", Verdict.PASSED, "PASS p99.9", float("inf"), None, 100.0),
    )
    breaking = Breaking(reason=ALL, changes=(ALL,))
    champion = Compared(release="r-1", version="1", bundle_digest="sha256:c")
    values = {
        "figures": figures, "gates": gates, "verdict": Verdict.PASSED, "task": Task.MULTICLASS,
        "classes": (ALL, "$b$"), "schema_changes": (ALL,), "breaking": breaking, "champion": champion,
    }  # fmt: skip
    return report(**{**values, **changes})


def pictures(page: str) -> list[str]:
    return [b64decode(each).decode() for each in re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)]


def texts_of(svg: str) -> set[str]:
    return {each.text for each in ElementTree.fromstring(svg).iter() if each.text and each.tag.endswith("text")}


def test_nothing_in_a_report_becomes_markup() -> None:
    for made in (report(), drawn()):
        page = render_html(made, "sha256:r")
        assert "<script" not in page
        assert "onerror=1&gt;" in page
        assert HIDING not in page
        assert r"\x1b[2K\u202egood" in page
        assert page.count("<img") == len(pictures(page))


def test_a_page_needs_nothing_else_and_runs_nothing() -> None:
    page = render_html(drawn(), "sha256:r")
    assert set(re.findall(r'(?:src|href)="(?!data:image/svg|#table-)[^"]*', page)) == set()
    assert not re.search(r"<(?:script|link|iframe|object)\b|@import|url\(", page)


def test_a_drawing_holds_texts_as_texts_and_is_the_same_each_time() -> None:
    loads = {"slo.json": b'{"p50_ms": 2.5, "blocks": [{"candidate_p99_ms": 4, "champion_p99_ms": 5.5}], "more": 1}'}
    first = pictures(render_html(drawn(), "sha256:r", read_loads(loads)))
    assert len(first) == 10
    other = drawn(created_at="2027-01-01T00:00:00+00:00", classes=(ALL, "$b$", "third"))
    again = pictures(render_html(other, "sha256:r2", read_loads(loads)))
    assert [one == two for one, two in zip(first, again, strict=True)].count(False) <= 2
    for svg in first:
        tags = {each.tag.rpartition("}")[2] for each in ElementTree.fromstring(svg).iter()}
        assert not tags & {"script", "image", "foreignObject", "a"}
        assert "<dc:date>" not in svg
    assert any("$b$" in svg for svg in first)


@pytest.mark.parametrize(
    ("name", "columns", "rows", "drawn", "limit"),
    [
        # The column of the table that was judged, of one that others are beside.
        (
            "slices.error",
            ("slice", "rows", "rate", "worse by"),
            (("a", 9, 0.3, 0.2), ("b", 8, 0.2, 0.1)),
            "worse by",
            True,
        ),
        ("drift.features", ("feature", "distance", "low"), (("a", 0.2001, 0.1), ("b", 0.1, 0.0)), "distance", True),
        (
            "fairness.error",
            ("attribute", "group", "value", "gap"),
            (("a", "x", 0.3, 0.2), ("a", "y", 0.1, 0.2)),
            "value",
            False,
        ),
        ("slices", ("slice", "n", "gap"), (("a", 9, 0.5), ("b", 8, None)), "gap", False),
        ("slices", ("slice", "rows"), (("a", 9),), None, False),
        ("slices", ("slice",), (("a",),), None, False),
        ("accuracy", ("slice", "gap"), (("a", 0.2),), None, False),
    ],
)
def test_of_a_gates_table_the_column_is_drawn_that_people_look_for(
    name: str, columns: tuple[str, ...], rows: Any, drawn: str | None, limit: bool
) -> None:
    gate = GateResult(name, Verdict.PASSED, "PASS", 0.2, None, 0.25, table=Table(columns, rows))
    told = re.findall(r'alt="[^:]*: ([^"]*)"', render_html(report(gates=(gate,)), "sha256:r"))
    expected = f"{drawn} of each line of the gate&#39;s table" + (", and the limit" if limit else "")
    assert told == ([expected] if drawn else [])


def loaded(gate: GateResult, **result: Any) -> str:
    """Return the page of a report with a check of a load run, and what that has measured."""
    return render_html(report(gates=(gate,)), "sha256:r", read_loads({"slo.json": json.dumps(result).encode()}))


def curve(of: str, ms: tuple[float, ...] = (1.0, 7.5, 30.0), share: tuple[float, ...] = (0.4, 0.95, 1.0)) -> Any:
    return {"of": of, "ms": ms, "share": share}


def test_the_latencies_of_all_requests_are_drawn_with_the_limits_of_the_version() -> None:
    gate = GateResult("slo.p95", Verdict.PASSED, "PASS p95", 9.0, (8.0, 10.0), 42.5)
    curves = [curve(of) for of in ("alone", "candidate_in_turn", "champion_in_turn")]

    both, one = loaded(gate, via="direct", curves=curves), loaded(gate, via="edge", curves=curves[:1])

    told = "share of requests on the {} path answered within a latency, and the limits of this version"
    assert f"{told.format('direct')}; in turn, both were loaded one after the other" in both
    assert told.format("edge") in one
    assert "loaded one after the other" not in one
    in_turn = {"this version, in turn", "production, in turn"}
    assert {"this version", "99 %", "10", *in_turn} <= texts_of(pictures(both)[-1])
    assert in_turn.isdisjoint(texts_of(pictures(one)[-1]))
    unlimited = loaded(replace(gate, limit=None), curves=curves)
    assert "#a40e26" in pictures(both)[-1]
    assert "#a40e26" not in pictures(unlimited)[-1]


@pytest.mark.parametrize("ms", [0.0, 1e-9, 1e9])
def test_latencies_of_any_size_are_drawn(ms: float) -> None:
    gate = GateResult("slo.p99", Verdict.PASSED, "PASS", 0.0, None, 0.0)
    page = loaded(gate, curves=[curve("alone", (0.0, ms), (0.5, 1.0))])
    assert len(pictures(page)) == (2 if ms else 1)


def test_lines_of_a_table_that_begin_alike_are_told_apart() -> None:
    table = Table(
        ("attribute", "group", "rate", "value"),
        (("age", "old", "true positive rate", 0.2), ("age", "old", "false positive rate", 0.1)),
    )
    gate = GateResult("fairness.equalized_odds", Verdict.PASSED, "PASS", 0.1, None, 0.2, table=table)

    (drawing,) = pictures(render_html(report(gates=(gate,)), "sha256:r"))

    assert {"age, old, true positive rate", "age, old, false positive rate"} <= texts_of(drawing)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b'{"p50_ms": Infinity}', b'{"p50_ms": "<b>"}', b'{"blocks": [1]}', b'{"via": "<b>"}',
        b'{"curves": [{"of": "alone", "ms": [1, 2], "share": [1]}]}',
        b'{"curves": [{"of": "<b>", "ms": [1], "share": [1]}]}',
        b'{"curves": [{"of": "alone", "ms": [1], "share": [1.1]}]}',
        b'{"curves": [{"of": "alone", "ms": [NaN], "share": [1]}]}',
    ],
)  # fmt: skip
def test_a_load_run_that_can_not_be_read_is_not_drawn(content: bytes) -> None:
    assert read_loads({"slo.json": content}) == {}


@pytest.mark.parametrize("value", [1e30, -1e30, 1e-300, 0.0])
def test_numbers_of_any_size_are_drawn(value: float) -> None:
    line = Line(x=(value, value), y=(value, -value))
    figures = Figures(rows=1, values=line, roc=(line,), residuals=Histogram(edges=(-1e30, 1e30), candidate=(10**12,)))
    assert len(pictures(render_html(report(figures=figures), "sha256:r"))) == 3


def test_a_report_of_the_most_figures_is_small_and_drawn() -> None:
    number = -1.2345e-301
    line = Line(position=10**6, x=(number,) * MOST_POINTS, y=(number,) * MOST_POINTS)
    figures = Figures(
        rows=10**12,
        roc=(line,) * MOST_LINES,
        precision_recall=(line,) * MOST_LINES,
        values=line,
        confusion=Confusion(
            positions=tuple(range(MOST_CLASSES)), counts=((10**12,) * MOST_CLASSES,) * MOST_CLASSES
        ),
        versus=versus().model_copy(update={"roc": line}),
    )  # fmt: skip
    made = report(figures=figures)
    assert len(str(made.as_json())) < 120_000
    assert Report.read(made.as_json()).digest == made.digest
    assert len(pictures(render_html(made, "sha256:r"))) == 5


def test_the_first_screen_answers_what_people_ask() -> None:
    page = render_html(drawn(profile=Profile.FULL), "sha256:r")
    first = page[: page.index("All gates")]
    assert "May this go to production?" in first
    assert "Yes, once another person approves this report." in first
    assert "4 of 100 rows (4.0%) are decided otherwise than by version 1" in first
    assert "ROC AUC 0.81 (+0.01)" in first
    assert "Clients have to change" in first
    assert "slices" in first


def test_tables_margins_and_digests_are_shown() -> None:
    page = render_html(drawn(), "sha256:report")
    for shown in ("sha256:report", "sha256:b", "sha256:p", "sha256:e", "sha256:c"):
        assert shown in page
    assert '<a href="#table-1">slices</a>' in page
    assert '<td class="number" data-is="margin">0.05</td>' in page
    assert '<td class="number">-0.2</td>' in page


def test_a_page_of_before_figures_says_so() -> None:
    champion = Compared(release="r-1", version="1", bundle_digest="sha256:c")
    assert "was not measured" in render_html(report(champion=champion), "sha256:r")
    assert pictures(render_html(report(), "sha256:r")) == []


def test_markdown_shows_a_strangers_text_as_it_is(tmp_path: Any) -> None:
    path, _ = make_bundle(tmp_path)
    bundle = Description.read(read_description(path))
    said = {
        "slipway.card.intended_use": f"# See [this](http://evil.example) {ALL}\n# more",
        "slipway.card.owner": "1. www.evil.example",
        "slipway.card.limitations": "x" * 5000,
        "slipway.card.unknown": "never shown",
    }
    for text in (render_card(drawn(), "sha256:r", bundle, said), render_summary(drawn(), "sha256:r")):
        assert "<script" not in text and "<img" not in text
        assert "http://" not in text
        assert HIDING not in text
        assert not re.search(r"(?<!\\)\]\(", text)
    card = render_card(drawn(), "sha256:r", bundle, said)
    assert r"\# See \[this\](http\://evil.example)" in card
    assert r"Owner: 1\. www\.evil.example" in card
    assert "(of 5,000 characters)" in card
    assert "never shown" not in card
    assert " on 2026-11-28T00:00:00+00:00." in card
    assert "| accuracy | 0.8 |" in card
    assert "### slices" in card
    assert "Not said" in render_card(drawn(), "sha256:r", bundle, {})


def test_a_summary_has_no_table() -> None:
    assert not re.search(r"^\|", render_summary(drawn(), "sha256:r"), re.MULTILINE)


def test_a_persons_description_is_kept_and_only_ours_replaced() -> None:
    first = described("", "one")
    assert first.startswith("<!-- slipway: report -->\none")
    assert described(first, "two") == first.replace("one", "two")
    own = described("Ask **Carol** first.\n", "one")
    assert own.startswith("Ask **Carol** first.\n\n<!--")
    assert described(own, "two") == own.replace("one", "two")
    assert described(f"before\n{first}\nafter", "two").startswith("before\n\nafter\n\n<!--")
    torn = first.replace("<!-- slipway: end of report -->", "a person's")
    assert described(torn, "two").startswith("one\na person's\n\n<!-- slipway: report -->\ntwo")


def test_a_description_that_is_too_long_with_ours_is_the_persons_alone() -> None:
    own = "x" * 4990
    assert described(own, "one") == own
    assert described(f"{own}\n\n{described('', 'a')}", "one") == own
