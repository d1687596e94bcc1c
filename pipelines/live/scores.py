"""How answers are distributed, in counts that add up over pulls: what a window keeps of the scores of a version."""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.domain.description import Answer, AnyAnswer, ValueAnswer, label_text

# Of P(positive), each a twentieth wide; 1 is in the last one.
BINS = 20
_LARGEST = sys.float_info.max


def scores_of(answers: Iterable[AnyAnswer]) -> dict[str, Any]:
    """Return the distribution of answers.

    Of a classifier that is how often each class was answered (`classes`), with P(positive) also in how many rows it was
    in each twentieth (`bins`); of a regression, count, sum, sum of squares and the extremes.
    """
    listed = list(answers)
    numbers = [float(each.prediction) for each in listed if isinstance(each, ValueAnswer)]
    if numbers:
        return {
            "count": len(numbers),
            "sum": _finite(sum(numbers)),
            "squares": _finite(sum(number * number for number in numbers)),
            "minimum": min(numbers),
            "maximum": max(numbers),
        }
    classes = Counter(label_text(each.prediction) for each in listed)
    found: dict[str, Any] = {"classes": dict(sorted(classes.items()))} if classes else {}
    chances = [float(each.probability) for each in listed if isinstance(each, Answer)]
    if chances:
        counted = Counter(min(BINS - 1, max(0, int(chance * BINS))) for chance in chances)
        found["bins"] = [counted[number] for number in range(BINS)]
    return found


def added(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the distribution of the answers of both."""
    if not one or not other:
        return dict(one or other)
    if "count" in one:
        total = {key: _finite(one[key] + other[key]) for key in ("count", "sum", "squares")}
        ends = {"minimum": min, "maximum": max}
        return total | {key: end(one[key], other[key]) for key, end in ends.items()}
    names = sorted({*one["classes"], *other["classes"]})
    found: dict[str, Any] = {
        "classes": {name: one["classes"].get(name, 0) + other["classes"].get(name, 0) for name in names}
    }
    if "bins" in one and "bins" in other:
        found["bins"] = [mine + theirs for mine, theirs in zip(one["bins"], other["bins"], strict=True)]
    return found


def _finite(number: float) -> float:
    """Return a sum, or the largest number there is in place of an infinite one, which no JSON has."""
    return max(-_LARGEST, min(_LARGEST, number))
