"""Whose evaluation set judges a version that brings none, and which sets are kept for that."""

import pytest

from pipelines.domain.evalset import judging_pins, set_owner
from pipelines.domain.records import Evaluation, PinnedVersion
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


def test_the_set_of_the_last_version_that_passed_is_kept_and_that_of_a_rejected_one_is_not() -> None:
    history = History(PINS, ALL, [], [])
    assert kept_evaluation_sets(history, []) == {"b"}
    assert kept_evaluation_sets(history, ["bundle 2"]) == {"a", "b"}
