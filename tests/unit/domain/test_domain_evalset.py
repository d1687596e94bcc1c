"""Whose evaluation set judges a version that brings none, and which sets are kept for that."""

import pytest

from pipelines.domain.evalset import judging_pins, set_numbers, set_owner
from pipelines.domain.records import AddedSet, Evaluation, PinnedVersion
from pipelines.domain.retention import History, kept_evaluation_sets
from pipelines.domain.verdict import Verdict
from tests.support.world.records import MODEL, NOW

# Version 2 brought no set, and was judged by that of version 1.
SETS = {"1": "a", "2": "a", "3": "b", "4": "c"}
PINS = [
    PinnedVersion(f"{MODEL}/{version}", MODEL, version, f"bundle {version}", of, NOW) for version, of in SETS.items()
]


def measured(**verdicts: Verdict) -> list[Evaluation]:
    return [
        Evaluation(f"e-{version[1:]}", MODEL, version[1:], "alice", NOW, verdict=str(verdict))
        for version, verdict in verdicts.items()
    ]


ALL = measured(v1=Verdict.PASSED, v2=Verdict.PASSED, v3=Verdict.PASSED, v4=Verdict.FAILED)


@pytest.mark.parametrize(
    ("version", "champion", "expected"),
    [("5", "1", ["1", "3", "2"]), ("5", None, ["3", "2", "1"]), ("4", "2", ["4", "2", "3", "1"])],
    ids=["the-champions", "the-last-that-passed", "its-own-first"],
)
def test_the_champions_set_comes_before_those_that_passed(
    version: str, champion: str | None, expected: list[str]
) -> None:
    found = judging_pins(PINS, ALL, version=version, champion=champion)
    assert [pin.version for pin in found] == expected


def test_a_set_is_that_of_the_version_that_brought_it() -> None:
    assert [set_owner(PINS, digest) for digest in ("a", "b", "z")] == ["1", "3", None]


def added(**numbers: int | None) -> list[AddedSet]:
    return [
        AddedSet(f"s-{digest}", MODEL, "mine", digest, "run", "alice", NOW, number=number)
        for digest, number in numbers.items()
    ]


@pytest.mark.parametrize(
    ("sets", "numbers"),
    [
        ({}, {"a": 1, "b": 2, "c": 3}),
        # Added after version 2, so version 3 has brought the third.
        ({"x": 2}, {"a": 1, "x": 2, "b": 3, "c": 4}),
        ({"y": 1, "x": 4}, {"y": 1, "a": 2, "b": 3, "x": 4, "c": 5}),
        # One that a version has brought keeps its number, and so does one that a version brings later.
        ({"b": 2}, {"a": 1, "b": 2, "c": 3}),
        ({"c": 1}, {"c": 1, "a": 2, "b": 3}),
        ({"x": None}, {"a": 1, "b": 2, "c": 3}),
    ],
    ids=["none", "between", "around", "known", "brought later", "not yet"],
)
def test_added_sets_and_those_of_versions_are_numbered_in_one_order(
    sets: dict[str, int | None], numbers: dict[str, int]
) -> None:
    found = set_numbers(PINS, added(**sets))

    assert list(found.items()) == list(numbers.items())


def test_the_set_of_the_last_version_that_passed_is_kept_and_that_of_a_rejected_one_is_not() -> None:
    history = History(PINS, ALL, [], [])
    assert kept_evaluation_sets(history, []) == {"b"}
    assert kept_evaluation_sets(history, ["bundle 2"]) == {"a", "b"}
