"""Say what a check found; a check's no always opens with `FAIL: <name>=<observed> > <limit>`."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

# Infinite where no reply came, which JSON writes as null.
Measured = Annotated[
    float,
    BeforeValidator(lambda value: math.inf if value is None else value),
    WithJsonSchema({"type": ["number", "null"]}),
]
LISTED = 3
LONGEST = 40


class Verdict(StrEnum):
    """What a check, or all of them together, concludes; only `passed` goes on."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class About(StrEnum):
    """What a check judges: the target, who answered, the generator's size, or a machine that may be busy by chance."""

    TARGET = "target"
    SERVED = "served"
    GENERATOR = "generator"
    MACHINE = "machine"


@dataclass(frozen=True)
class Check:
    """One rule over the measurements, in the unit of its limit; a check that is not `judged` only informs."""

    name: str
    verdict: Verdict
    observed: Measured | None
    limit: float | None
    message: str
    interval: tuple[Measured, Measured] | None = None
    judged: bool = True
    about: About = About.TARGET


def disturbance(checks: Iterable[Check]) -> str | None:
    """Return what a busy moment of the machine kept from being judged, None where measuring again would not help.

    It would not where the generator is too small at any moment, or where something else answered.
    """
    undecided = [check for check in checks if check.verdict is Verdict.INCONCLUSIVE]
    if any(check.about in (About.GENERATOR, About.SERVED) for check in undecided):
        return None
    return next((check.message for check in undecided if check.about is About.MACHINE), None)


def failure(name: str, observed: float, limit: float, *, unit: str, details: str) -> str:
    """Write a no in the form that people and scripts rely on."""
    unit = f" {unit}" if unit else ""
    return f"FAIL: {name}={observed:.4f}{unit} > {limit:g}{unit} ({details})"


def quoted(text: str, longest: int = LONGEST) -> str:
    """Quote what a target said: cut, and without a character that a terminal or a log would act on."""
    return json.dumps(text[:longest])


def most_frequent(counts: Iterable[tuple[str, int]]) -> str:
    """List the most frequent kinds with their counts, and how many kinds more there are: a target can say anything."""
    ordered = sorted(counts, key=lambda kind: (-kind[1], kind[0]))
    listed = ", ".join(f"{count:,} {name}" for name, count in ordered[:LISTED])
    more = len(ordered) - LISTED
    return f"{listed} and {more:,} more" if more > 0 else listed
