"""A version is asked what production was asked: what it decides otherwise, and what it does not answer, is proven."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.domain.bundle import Feature, FeatureType, Schema
from pipelines.domain.description import Description, Golden, Task
from pipelines.domain.release import Environment, Release
from pipelines.domain.sections import Profile
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import DeployFailed
from pipelines.evaluation.gates.service.shadow import SHADOW
from pipelines.evaluation.gates.service.world import Service, Shadowed
from pipelines.live.recorded import Recorded, kept_recorded
from pipelines.ports import HttpReply
from tests.support.world.bundles import make_bundle, read_description
from tests.support.world.fakes import FakeLoadRunner
from tests.support.world.records import policy

RELEASE = Release("trial-e-1", "toy-model", Environment.STAGING, "2", "sha256:b")
PLANS = ("basic", "plus", "pro")
Answer = dict[str, Any]
Respond = Callable[[dict[str, Any]], Answer | None]


class RowProbe:
    """A service that answers each row by a function, and refuses a request with a row to which that returns None."""

    def __init__(self, respond: Respond) -> None:
        self.respond, self.asked = respond, 0

    def get(self, url: str) -> HttpReply:
        raise DeployFailed(f"{url} is not asked for")

    def post(self, url: str, content: bytes, headers: dict[str, str], *, timeout_s: float | None = None) -> HttpReply:
        self.asked += 1
        body = json.loads(content)
        answers = [self.respond(row) for row in (body["rows"] if url.endswith("/batch") else [body])]
        if None in answers:
            return HttpReply(422, {"error": {"code": "invalid_field", "fields": []}}, {})
        found: Any = {"predictions": answers} if url.endswith("/batch") else {**answers[0], "request_id": "r"}  # type: ignore[dict-item]
        return HttpReply(200, found, {})


def answer(chance: float) -> Answer:
    return {"prediction": "Yes" if chance > 0.5 else "No", "probability": chance}


def chance(row: dict[str, Any]) -> float:
    """What the champion answers: spread evenly, and far from the middle for some."""
    return float((row["age"] * 37 % 100) / 100)


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Description:
    path, _ = make_bundle(tmp_path_factory.mktemp("bundles"))
    return Description.read(read_description(path))


def made_rows(count: int) -> list[dict[str, Any]]:
    source = random.Random(1)
    return [
        {
            "age": source.randint(0, 99), "visits": source.randint(0, 9), "income": source.uniform(0, 9000),
            "plan": source.choice(PLANS), "home_region": source.choice(("north", "south")),
        }
        for _ in range(count)
    ]  # fmt: skip


def recorded(rows: Sequence[dict[str, Any]], respond: Respond = lambda row: answer(chance(row))) -> Recorded:
    answers = [respond(row) or {} for row in rows]
    return Recorded("1", rows, [each["prediction"] for each in answers], [[each["probability"]] for each in answers])


def shadow(
    description: Description, respond: Respond, *, shadowed: Shadowed | None, probe: RowProbe | None = None, **gate: Any
) -> dict[str, GateResult]:
    service = Service(
        url="http://127.0.0.1:9",
        release=RELEASE,
        golden=Golden(rows=(), expected=(), tolerance=1e-5),
        profile=Profile.FULL,
        rows=[],
        probe=probe or RowProbe(respond),
        loads=FakeLoadRunner(),
        releases=list,
        workdir=Path(),
        features=Schema.of(description).features,
        task=description.task,
        output=description.output,
        shadowed=lambda most: shadowed,
    )
    changes = {f"gates.shadow.{key}": value for key, value in gate.items()}
    return {result.name: result for result in SHADOW.results(service, policy(**changes))}


def of(description: Description, rows: Sequence[dict[str, Any]], *, breaking: bool = False) -> Shadowed:
    return Shadowed(recorded(rows), Schema.of(description).features, breaking)


def test_the_same_answers_pass_with_numbers(description: Description) -> None:
    found = shadow(description, lambda row: answer(chance(row)), shadowed=of(description, made_rows(500)))

    assert {name: each.verdict for name, each in found.items()} == dict.fromkeys(
        ("shadow.errors", "shadow.flips", "shadow.slices", "shadow.shift"), Verdict.PASSED
    )
    assert found["shadow.flips"].message.startswith("PASS flips=0.0000 <= 0.15 (95 % interval 0.0000 to 0.0076) of 500")
    assert found["shadow.slices"].table is not None and len(found["shadow.slices"].table.rows) >= 12


def test_a_retrain_that_differs_a_little_passes(description: Description) -> None:
    source = random.Random(2)

    def respond(row: dict[str, Any]) -> Answer:
        return answer(min(1.0, max(0.0, chance(row) + source.gauss(0, 0.05))))

    found = shadow(description, respond, shadowed=of(description, made_rows(1000)))

    assert {each.verdict for each in found.values()} == {Verdict.PASSED}
    assert 0 < (found["shadow.flips"].observed or 0) < 0.1


def test_a_version_that_decides_otherwise_is_stopped(description: Description) -> None:
    found = shadow(description, lambda row: answer(1 - chance(row)), shadowed=of(description, made_rows(300)))

    assert found["shadow.flips"].verdict is found["shadow.shift"].verdict is Verdict.FAILED
    assert found["shadow.flips"].message.startswith("FAIL: flips=")


def test_a_version_that_decides_otherwise_in_one_slice_only_is_stopped_there(description: Description) -> None:
    def respond(row: dict[str, Any]) -> Answer:
        return answer(1 - chance(row) if row["plan"] == "pro" and row["visits"] < 4 else chance(row))

    found = shadow(description, respond, shadowed=of(description, made_rows(1000)))

    assert found["shadow.flips"].verdict is Verdict.PASSED
    assert found["shadow.slices"].verdict is Verdict.FAILED
    assert "with plan=pro, the worst of" in found["shadow.slices"].message


def test_what_is_not_proven_passes_and_says_so(description: Description) -> None:
    rows = made_rows(100)
    flipped = iter([True] * 17 + [False] * 83)

    def respond(row: dict[str, Any]) -> Answer:
        return answer(1 - chance(row) if next(flipped) else chance(row))

    found = shadow(description, respond, shadowed=of(description, rows), maximum_shift=1.0)

    assert found["shadow.flips"].verdict is Verdict.PASSED
    assert "is not proven to be > 0.15" in found["shadow.flips"].message


def test_a_version_that_does_not_answer_some_requests_is_stopped_and_the_others_are_compared(
    description: Description,
) -> None:
    def respond(row: dict[str, Any]) -> Answer | None:
        return None if row["age"] > 89 else answer(chance(row))

    found = shadow(description, respond, shadowed=of(description, made_rows(400)))

    assert found["shadow.errors"].verdict is Verdict.FAILED
    assert "the first: {'error': {'code': 'invalid_field'" in found["shadow.errors"].message
    assert found["shadow.flips"].observed == 0


def test_a_version_that_answers_nothing_is_stopped(description: Description) -> None:
    found = shadow(description, lambda row: None, shadowed=of(description, made_rows(120)))

    assert set(found) == {"shadow.errors"} and found["shadow.errors"].verdict is Verdict.FAILED


@pytest.mark.parametrize(
    "body", [{"prediction": "Maybe", "probability": 0.5}, {"prediction": "No", "probability": None}, {"prediction": 1}]
)
def test_an_answer_that_is_none_of_the_models_is_an_error(description: Description, body: Answer) -> None:
    found = shadow(description, lambda row: body, shadowed=of(description, made_rows(120)))

    assert found["shadow.errors"].observed == 1.0


def test_a_service_that_dies_meanwhile_is_stopped(description: Description) -> None:
    class Dying(RowProbe):
        def post(self, *args: Any, **more: Any) -> HttpReply:
            raise DeployFailed("http://127.0.0.1:9 does not answer")

    found = shadow(description, lambda row: None, shadowed=of(description, made_rows(120)), probe=Dying(lambda r: None))

    assert found["shadow.errors"].verdict is Verdict.FAILED
    assert "does not answer" in found["shadow.errors"].message


@pytest.mark.parametrize(
    ("shadowed", "why"),
    [
        (lambda d: None, "no champion serves"),
        (lambda d: of(d, made_rows(99)), "99 of the champion's requests are sampled, fewer than 100"),
        (lambda d: of(d, []), "0 of the champion's requests"),
        (lambda d: replace(of(d, []), recorded=replace(recorded(made_rows(100)), hidden=("income",))), "income out of"),
    ],
    ids=["no champion", "too few", "none", "a feature is kept out"],
)
def test_without_enough_to_compare_it_does_not_apply(
    description: Description, shadowed: Callable[[Description], Shadowed | None], why: str
) -> None:
    found = shadow(description, lambda row: answer(chance(row)), shadowed=shadowed(description))

    assert [each.verdict for each in found.values()] == [Verdict.NOT_APPLICABLE]
    assert why in found["shadow"].message


def other_output(description: Description, **changes: Any) -> Description:
    return description.model_copy(update={"output": description.output.model_copy(update=changes)})


@pytest.mark.parametrize(
    "champion",
    [
        lambda d: d.model_copy(update={"task": Task.REGRESSION}),
        lambda d: other_output(d, classes=("No", "Yes", "Perhaps")),
        lambda d: other_output(d, positive="No"),
    ],
    ids=["another task", "one class more", "the other probability"],
)
def test_who_answers_otherwise_by_declaration_is_not_compared(
    description: Description, champion: Callable[[Description], Description]
) -> None:
    provenance = description.provenance.model_copy(update={"breaking": "clients want more"})
    version = description.model_copy(update={"provenance": provenance})
    theirs = champion(description)
    shadowed = Shadowed.of(recorded(made_rows(300)), version, theirs)

    found = shadow(version, lambda row: answer(chance(row)), shadowed=shadowed)

    assert [each.verdict for each in found.values()] == [Verdict.NOT_APPLICABLE]
    assert "v1 answers another task, or other classes" in found["shadow"].message
    assert Shadowed.of(recorded(made_rows(300)), version, description).alike


def test_who_declares_to_break_is_asked_what_it_takes_cut_to_what_it_knows(description: Description) -> None:
    fewer = description.model_copy(
        update={"features": tuple(each for each in description.features if each.name != "visits")}
    )
    rows = [*made_rows(300), *({**row, "plan": "gone"} for row in made_rows(50))]

    def respond(row: dict[str, Any]) -> Answer | None:
        return None if "visits" in row or row["plan"] == "gone" else answer(chance(row))

    declared = shadow(fewer, respond, shadowed=of(description, rows, breaking=True))
    silent = shadow(fewer, respond, shadowed=of(description, rows))

    assert declared["shadow.errors"].observed == declared["shadow.flips"].observed == 0
    assert " of 300 sampled requests" in declared["shadow.errors"].message
    assert silent["shadow.errors"].verdict is Verdict.FAILED


def test_only_warning_lets_it_go_on(description: Description) -> None:
    found = shadow(
        description, lambda row: answer(1 - chance(row)), shadowed=of(description, made_rows(300)), warn_only=True
    )

    assert all(each.goes_on for each in found.values()) and found["shadow.flips"].warn_only


def numbers(rows: Sequence[dict[str, Any]]) -> Shadowed:
    told = [float(row["x"]) for row in rows]
    kept = Recorded("1", rows, told, [[] for _ in rows])
    return Shadowed(kept, (Feature("x", FeatureType.NUMBER),), False)


@pytest.mark.parametrize(("added", "verdict"), [(0.2, Verdict.PASSED), (2.0, Verdict.FAILED)])
def test_numbers_are_compared_in_standard_deviations(description: Description, added: float, verdict: Verdict) -> None:
    source = random.Random(3)
    rows = [{"x": source.gauss(100, 10)} for _ in range(300)]
    regression = description.model_copy(update={"task": Task.REGRESSION})

    found = shadow(regression, lambda row: {"prediction": row["x"] + added * 10}, shadowed=numbers(rows))

    assert found["shadow.shift"].verdict is found["shadow.flips"].verdict is verdict
    assert found["shadow.shift"].observed == pytest.approx(added, rel=0.1)
    assert "standard deviations" in found["shadow.shift"].message


def test_several_classes_are_compared_by_all_their_probabilities(description: Description) -> None:
    classes = ("a", "b", "c")
    output = description.output.model_copy(update={"classes": classes, "positive": None})
    several = description.model_copy(update={"task": Task.MULTICLASS, "output": output})
    rows = made_rows(200)

    def told(row: dict[str, Any], turn: int) -> Answer:
        place = (row["age"] + turn) % 3
        return {"prediction": classes[place], "probabilities": {c: float(n == place) for n, c in enumerate(classes)}}

    before = [told(row, 0) for row in rows]
    kept = Recorded(
        "1", rows, [each["prediction"] for each in before], [list(each["probabilities"].values()) for each in before]
    )
    shadowed = Shadowed(kept, Schema.of(description).features, False)

    same = shadow(several, lambda row: told(row, 0), shadowed=shadowed)
    other = shadow(several, lambda row: told(row, 1), shadowed=shadowed)

    assert {each.verdict for each in same.values()} == {Verdict.PASSED}
    assert other["shadow.flips"].observed == 1.0
    assert other["shadow.shift"].observed == pytest.approx(1.0)


def test_missing_values_and_times_have_slices_of_their_own(description: Description) -> None:
    features = (
        Feature("day", FeatureType.DATE, nullable=True),
        Feature("flag", FeatureType.BOOLEAN, nullable=True),
        Feature("words", FeatureType.TEXT, maximum_length=20),
    )
    rows = [
        {"day": f"2024-01-{1 + number % 28:02}" if number % 3 else None, "flag": number % 2 == 0, "words": str(number)}
        for number in range(300)
    ]
    told = Recorded("1", rows, ["No"] * 300, [[0.1]] * 300)

    found = shadow(description, lambda row: answer(0.1), shadowed=Shadowed(told, features, False))

    table = found["shadow.slices"].table
    assert table is not None
    assert {(row[0], row[1]) for row in table.rows} >= {("day", "missing"), ("flag", "True"), ("flag", "False")}
    assert not any(row[0] == "words" for row in table.rows)


def test_a_repeated_step_asks_the_same(tmp_path: Path) -> None:
    rows = made_rows(3)
    first = kept_recorded(tmp_path / "shadowed.json", lambda: recorded(rows))
    again = kept_recorded(tmp_path / "shadowed.json", lambda: recorded([]))

    assert list(again.rows) == rows == list(first.rows)
    assert list(again.scores) == list(first.scores)
