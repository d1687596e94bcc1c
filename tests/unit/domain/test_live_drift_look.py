"""What a look says: drifted only where that is proven, and nothing where there are too few rows."""

from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.domain.bundle import FeatureType
from pipelines.domain.live_drift import FeatureMoved, Limit, Moves, Seen, Span, judge

LIMIT = Limit(distance=0.25, auc=0.75)


def feature(name: str, low: float, value: float = 0.5, *, judged: bool = True) -> FeatureMoved:
    return FeatureMoved(
        name=name,
        type=FeatureType.NUMBER,
        judged=judged,
        distance=Span(value=value, low=low, high=1),
        missing_before=0,
        missing_now=0,
        typical_before="1",
        typical_now="2",
    )


def moves(*features: FeatureMoved, auc: float | None = 0.5, rows: tuple[int, int] = (100, 100)) -> Moves:
    together = None if auc is None else Span(value=auc, low=auc, high=1)
    return Moves(rows_before=rows[0], rows_now=rows[1], features=features, together=together)


CASES: dict[str, tuple[Moves, Seen, tuple[str, ...], str]] = {
    "nothing": (moves(feature("x", 0, 0.1)), Seen.ALIKE, (), "none of 1 features is proven to have drifted"),
    "not proven": (moves(feature("x", 0.2, 0.9)), Seen.ALIKE, (), "furthest x 0.900 (0.200 to 1.000)"),
    "at the limit": (moves(feature("x", 0.25)), Seen.ALIKE, (), "none of 1"),
    "a feature": (moves(feature("x", 0.26), feature("y", 0)), Seen.DRIFTED, ("x",), "1 of 2 features have drifted"),
    "many": (moves(*(feature(f"x{at}", 0.3) for at in range(12))), Seen.DRIFTED,
             tuple(f"x{at}" for at in range(12)), "x9 0.500 (0.300 to 1.000) and 2 more"),
    "together": (moves(feature("x", 0), auc=0.76), Seen.DRIFTED, (), "0.760 to 1.000), beyond 0.75"),
    "together at the limit": (moves(feature("x", 0), auc=0.75), Seen.ALIKE, (), "not proven to be beyond 0.75"),
    "together unknown": (moves(feature("x", 0), auc=None), Seen.ALIKE, (), "too few rows to tell all"),
    "shown only": (moves(feature("x", 0), feature("t", 0.9, judged=False)), Seen.ALIKE, (), "none of 1"),
    "nothing to judge": (moves(feature("t", 0.9, judged=False)), Seen.INCONCLUSIVE, (), "no feature"),
    "few asked": (moves(feature("x", 0.9), rows=(100, 99)), Seen.INCONCLUSIVE, (), "99 rows that were asked"),
    "few of the training": (moves(feature("x", 0.9), rows=(9, 100)), Seen.INCONCLUSIVE, (), "against 9 of it; 100"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_look_says_what_is_proven(name: str) -> None:
    measured, seen, drifted, told = CASES[name]

    found = judge(measured, LIMIT, against="it", rows_needed=100)

    assert (found[0], found[2]) == (seen, drifted)
    assert told in found[1]


def test_what_strangers_wrote_is_one_line_that_people_see() -> None:
    given: dict[str, Any] = {**feature("x", 0).as_json(), "typical_now": "a\nb\u202e" + 100 * "c"}

    shown = FeatureMoved.model_validate(given).typical_now

    assert shown.startswith("a\\nb\\u202e") and len(shown) <= 60


@pytest.mark.parametrize("span", [{"low": 0.6}, {"value": 1.1}, {"high": float("nan")}, {"low": -0.1}])
def test_an_interval_that_is_none_is_refused(span: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Span.model_validate({"value": 0.5, "low": 0.4, "high": 0.5, **span})
