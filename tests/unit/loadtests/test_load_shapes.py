"""How the rate of a load moves, who sends it, and what of it is judged: pure, but for the raw files."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtests.generator.schedule import course_offsets
from loadtests.judge.comparison import Block
from loadtests.plan.personas import Reply, check_reply, read_mix, requests_of
from loadtests.plan.plan import Arrivals, ComparisonPlan
from loadtests.plan.reading import read_plan
from loadtests.plan.shapes import Course, Shape, ShapeKind, expected_requests, read_shape
from loadtests.report.windows import windows_of
from loadtests.runner.blocks import blocks_phase, pair, ratios_of
from loadtests.samples import Persona, Window, read_look, read_turns, write_raw
from tests.unit.loadtests.test_load_plan import plan_data, write
from tests.unit.loadtests.test_slo import latencies, look_of, plan_of

ROWS: list[dict[str, Any]] = [{"tenure": number, "plan": "basic"} for number in range(45)]
SCORE = {"prediction": "No", "probability": 0.2}
WRONG = "a prediction that is no answer of any task"
# The share of a run's rate over its five fifths, on average.
FIFTHS = {
    ShapeKind.STEADY: (1, 1, 1, 1, 1),
    ShapeKind.SOAK: (1, 1, 1, 1, 1),
    ShapeKind.RAMP: (0.28, 0.44, 0.6, 0.76, 0.92),
    ShapeKind.SPIKE: (0.2, 0.2, 1, 0.2, 0.2),
    ShapeKind.STEP: (0.2, 0.4, 0.6, 0.8, 1),
}


def sent_in_fifths(kind: ShapeKind, arrivals: Arrivals, seed: int = 1) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return how many arrivals of 200 s at 100 req/s are due in each fifth, after a warm-up of 7 s."""
    course = Course(Shape(kind), rate_per_s=100, warmup_s=7, duration_s=200)
    offsets_s = course_offsets(arrivals, course, np.random.default_rng(seed))
    due_s = np.array([offset_s for offset_s, _ in zip(offsets_s, range(25_000), strict=False)])
    assert np.all(np.diff(due_s) > 0)
    return np.histogram(due_s, 7 + 40 * np.arange(6))[0]


@pytest.mark.parametrize("kind", list(ShapeKind))
def test_fixed_arrivals_follow_their_shape_to_the_request(kind: ShapeKind) -> None:
    assert sent_in_fifths(kind, Arrivals.FIXED) == pytest.approx(np.array(FIFTHS[kind]) * 4000, abs=1.01)


@pytest.mark.parametrize("kind", list(ShapeKind))
def test_poisson_arrivals_follow_their_shape_and_scatter_as_such(kind: ShapeKind) -> None:
    expected = np.array(FIFTHS[kind]) * 4000
    found = np.array([sent_in_fifths(kind, Arrivals.POISSON, seed) for seed in range(20)])
    assert found.mean(axis=0) == pytest.approx(expected, rel=0.03)
    # The variance of a Poisson count is its mean.
    assert (found.var(axis=0, ddof=1) / expected).mean() == pytest.approx(1, abs=0.5)


def test_the_warm_up_has_the_rate_that_the_run_begins_with() -> None:
    course = Course(Shape(ShapeKind.RAMP, low=0.5), rate_per_s=100, warmup_s=10, duration_s=100)
    assert course.moments(np.array([0.0, 250.0, 500.0])) == pytest.approx([0, 5, 10])
    assert course.measured_requests == pytest.approx(7500)


def test_a_shape_is_read_from_its_name_and_from_json() -> None:
    assert read_shape("spike") == Shape(ShapeKind.SPIKE)
    assert read_shape('{"kind": "step", "steps": 8}') == Shape(ShapeKind.STEP, steps=8)
    shape = Shape(ShapeKind.RAMP, low=0.3)
    assert read_shape(shape.as_text()) == shape
    assert expected_requests(Shape(ShapeKind.STEP, steps=4), 100, 80) == 5000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("zigzag", "shape: kind is 'zigzag', not steady, ramp, spike, soak or step"),
        ('{"kind": "ramp", "to": 2}', "shape has unknown keys: to"),
        ('{"kind": "ramp", "low": 0}', "shape: low is 0, must be above 0"),
        ('{"kind": "ramp", "low": 1}', "shape: low is 1, must be below 1"),
        ('{"kind": "step", "steps": 1}', "shape: steps is 1, must be 2 or more"),
        ('{"kind": "step", "steps": 51}', "shape: steps is 51, must be at most 50"),
        ('{"kind": "step", "steps": true}', "shape: steps is True, not a valid integer"),
        ('{"kind": ' * 100_000, "shape can't be read: Invalid JSON: recursion limit exceeded"),
    ],
)
def test_a_shape_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_shape(text)


def test_a_mix_is_a_share_of_each_persona() -> None:
    assert read_mix("single=9,batch=1") == ((Persona.SINGLE, 0.9), (Persona.BATCH, 0.1))
    assert read_mix("mistaken=2") == ((Persona.MISTAKEN, 1.0),)


@pytest.mark.parametrize(
    "text", ["single", "single=0", "robot=1", "single=nan", "single=inf", "single=True", "", "single=-1"]
)
def test_a_mix_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="mix"):
        read_mix(text)


def test_personas_draw_their_bodies_from_the_same_rows() -> None:
    single = requests_of(Persona.SINGLE, ROWS, "/predict")
    assert [json.loads(request.body) for request in single] == ROWS
    batches = requests_of(Persona.BATCH, ROWS, "/predict")
    assert {request.route for request in batches} == {"/predict/batch"}
    assert [row for request in batches for row in json.loads(request.body)["rows"]] == ROWS
    assert [request.predictions for request in batches] == [20, 20, 5]
    mistakes = requests_of(Persona.MISTAKEN, ROWS, "/predict")
    assert {request.name for request in mistakes} == {"/predict (mistakes)"}
    bodies = [json.loads(r.body) for r in mistakes[1:5] if r.content_type == "application/json"]
    assert ROWS[0] not in bodies
    # A field that is left out is no mistake where it may be missing.
    assert all(set(ROWS[0]) <= set(body) for body in bodies if isinstance(body, dict))


def test_a_path_of_batches_is_asked_by_batches(tmp_path: Path) -> None:
    assert requests_of(Persona.SINGLE, ROWS, "/predict/batch")[0].route == "/predict"
    assert requests_of(Persona.BATCH, ROWS, "/predict/batch")[0].route == "/predict/batch"
    plan = read_plan(write(tmp_path, plan_data(tmp_path, path="/predict/batch")))
    assert (plan.shares, plan.judged_share) == ((("batch", 1.0),), 1.0)


@pytest.mark.parametrize(
    ("persona", "status", "body", "answer"),
    [
        (Persona.SINGLE, 200, SCORE | {"version": "6"}, Reply("6", "")),
        (Persona.SINGLE, 200, {"prediction": "No", "version": "6"}, Reply("6", WRONG)),
        (Persona.SINGLE, 200, SCORE | {"prediction": True, "version": "6"}, Reply("6", "")),
        (Persona.SINGLE, 200, {"prediction": 1, "probabilities": {"0": 0.5, "1": 0.5}, "version": "6"}, Reply("6", "")),
        (Persona.SINGLE, 200, {"prediction": 1, "probabilities": {"0": math.nan}, "version": "6"}, Reply("6", WRONG)),
        (Persona.SINGLE, 200, {"prediction": -12.5, "version": "6"}, Reply("6", "")),
        (Persona.SINGLE, 200, {"prediction": math.inf, "version": "6"}, Reply("6", WRONG)),
        (Persona.SINGLE, 200, {"prediction": True, "version": "6"}, Reply("6", WRONG)),
        (Persona.SINGLE, 200, SCORE | {"prediction": None, "version": "6"}, Reply("6", WRONG)),
        (Persona.SINGLE, 200, SCORE | {"probability": math.nan, "version": "6"}, Reply("6", WRONG)),
        (Persona.SINGLE, 200, SCORE | {"probability": 10**400, "version": "6"}, Reply("6", WRONG)),
        (Persona.SINGLE, 200, SCORE | {"probability": "0.5", "version": "6"}, Reply("6", WRONG)),
        (Persona.SINGLE, 200, SCORE | {"probability": True, "version": "6"}, Reply("6", WRONG)),
        (Persona.SINGLE, 200, {"version": "6"}, Reply("6", "0 predictions instead of 1")),
        (Persona.SINGLE, 200, [], Reply("", "body is no object")),
        (Persona.SINGLE, 422, {}, Reply("", "status 422")),
        (Persona.SINGLE, 500, {}, Reply("", "status 500")),
        (Persona.BATCH, 200, {"predictions": [SCORE] * 20, "version": "6"}, Reply("6", "")),
        (Persona.BATCH, 200, {"predictions": [None] * 20, "version": "6"}, Reply("6", WRONG)),
        (Persona.BATCH, 200, {"predictions": [SCORE] * 19 + [{}], "version": "6"}, Reply("6", WRONG)),
        (
            Persona.BATCH,
            200,
            {"predictions": [SCORE] * 19, "version": "6"},
            Reply("6", "19 predictions instead of 20"),
        ),
        (Persona.BATCH, 200, {"predictions": 20, "version": 6}, Reply("", "0 predictions instead of 20")),
        (Persona.MISTAKEN, 400, {}, Reply("", "")),
        (Persona.MISTAKEN, 415, {}, Reply("", "")),
        (Persona.MISTAKEN, 422, {}, Reply("", "")),
        (Persona.MISTAKEN, 200, {"prediction": "No", "version": "6"}, Reply("", "status 200 for a mistake")),
        (Persona.MISTAKEN, 500, {}, Reply("", "status 500 for a mistake")),
        (Persona.MISTAKEN, 404, {}, Reply("", "status 404 for a mistake")),
    ],
)
def test_each_persona_has_its_own_idea_of_a_right_answer(
    persona: Persona, status: int, body: Any, answer: Reply
) -> None:
    request = requests_of(persona, ROWS, "/predict")[0]
    assert check_reply(request, status, json.dumps(body).encode()) == answer


def test_an_answer_that_is_no_json_is_an_error() -> None:
    assert check_reply(requests_of(Persona.SINGLE, ROWS, "/predict")[0], 200, b"<html>").error == "body is not JSON"


def test_latencies_are_told_apart_by_route_and_mistakes_belong_to_none(tmp_path: Path) -> None:
    sent = [("/predict", "single"), ("/predict/batch", "batch"), ("/predict", "mistaken"), ("/predict", "single")]
    columns: dict[str, Any] = {
        "intended_s": [1.0, 2.0, 3.0, 4.0],
        "sent_s": [1.0, 2.0, 3.0, 4.0],
        "latency_ms": [5.0, 50.0, 1.0, 6.0],
        "status": [200, 200, 422, 200],
        "version": ["6", "6", "", "6"],
        "error": ["", "", "", ""],
        "route": [route for route, _ in sent],
        "persona": [persona for _, persona in sent],
        "turn": [0, 0, 0, 0],
    }
    write_raw(tmp_path / "raw.parquet", columns, [Window(0.0, 5.0, 4, 0.1)])
    look = read_look([tmp_path / "raw.parquet"])
    assert look.served == {"6": 3}
    assert not look.failed.any()
    assert look.part("/predict").latency_ms.tolist() == [5.0, 6.0]
    assert look.part("/predict/batch").latency_ms.tolist() == [50.0]
    assert look.part("/elsewhere").latency_ms.tolist() == []


def test_blocks_take_the_candidate_first_in_the_odd_ones() -> None:
    plan = plan_of(host="http://127.0.0.1:1")
    champion = ComparisonPlan("http://127.0.0.1:2", "5", blocks=10, block_s=10, warmup_s=1, margin=1.1, tolerance_ms=0)
    phase = blocks_phase(plan, champion, look=2)
    assert (phase.number, phase.duration_s) == (2, 220)
    hosts = [turn.host.rpartition(":")[2] for turn in phase.turns]
    assert hosts == ["1", "2", "2", "1"] * 5
    # Both arms of a block are sent the same, and each block something else.
    assert [turn.number for turn in phase.turns] == [number for number in range(1, 11) for _ in range(2)]
    slow_ms = {plan.host: 30, champion.host: 20}
    blocks = pair([look_of(latencies(1000, 20, slow_ms=slow_ms[turn.host])) for turn in phase.turns])
    ratios = ratios_of(blocks, "/predict")
    assert [ratio.block for ratio in ratios] == list(range(1, 11))
    assert {(ratio.candidate_p99_ms, ratio.champion_p99_ms, ratio.ratio) for ratio in ratios} == {(30, 20, 1.5)}


def test_a_route_of_batches_is_compared_by_batches() -> None:
    plan = plan_of(path="/predict/batch")
    assert blocks_phase(plan, plan.comparison or pytest.fail(), look=1).mix == ((Persona.BATCH, 1.0),)


def test_a_ratio_is_drawn_of_the_requests_that_are_judged() -> None:
    look = look_of(latencies(200, 3, slow_ms=30), duration_s=1)
    quick_errors = np.arange(400) >= 200
    among_errors = look_of(np.append(look.latency_ms, np.full(200, 0.1)), duration_s=1, failed=quick_errors)
    (ratio,) = ratios_of([Block(candidate=among_errors, champion=look)], "/predict")
    assert (ratio.candidate_p99_ms, ratio.champion_p99_ms) == (30, 30)


def test_turns_are_read_apart_and_each_without_its_own_warm_up(tmp_path: Path) -> None:
    paths = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    for path in paths:
        columns: dict[str, Any] = {name: [1.0, 2.0, 11.0, 12.0] for name in ("intended_s", "sent_s", "latency_ms")}
        columns |= {"status": [200] * 4, "version": ["6", "6", "5", "5"], "error": [""] * 4}
        columns |= {"route": ["/predict"] * 4, "persona": ["single"] * 4, "turn": [0, 0, 1, 1]}
        write_raw(path, columns, [Window(2.0, 5.0, 1, 0.1), Window(10.0, 15.0, 2, 0.2)])
    first, second = read_turns(paths)
    assert (first.intended_s.tolist(), first.served, first.window) == ([2, 2], {"6": 2}, Window(2, 5, 2, 0.1))
    assert (second.intended_s.tolist(), second.served) == ([11, 12, 11, 12], {"5": 4})


def test_windows_tell_what_happened_when() -> None:
    latency_ms = np.full(12_000, 10.0)
    latency_ms[6_000:6_010] = np.inf
    rows = windows_of(plan_of(), [look_of(latency_ms)])
    assert len(rows) == 12
    assert [(row.slow, row.errors) for row in rows if row.slow] == [(10, 10)]
    assert rows[6].from_s == 30
    assert rows[0].rate_per_s == pytest.approx(200)
    steps = windows_of(plan_of(shape=Shape(ShapeKind.STEP)), [look_of(latency_ms)])
    assert [row.until_s for row in steps] == [12, 24, 36, 48, 60]
