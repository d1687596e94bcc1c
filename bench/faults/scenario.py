"""A scenario: a fault injected into an installation under load, and what was seen of it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.faults.grounds import Grounds

Injection = Callable[["Grounds"], str]


class NotHeld(Exception):
    """What happened is not what is right; the text says what was seen instead."""


class NotInjected(Exception):
    """A machine can't do that; the text says what it lacks."""


@dataclass(frozen=True)
class Scenario:
    """`inject` causes a fault, waits for what is right, and returns in a sentence what it saw, or raises NotHeld.

    `spares` is False where requests are lost by the fault itself, such as those inside a replica that is killed.
    """

    name: str
    inject: Injection
    spares: bool = True


class Verdict(StrEnum):
    """What came of a scenario."""

    HELD = "held"
    NOT_HELD = "not held"
    NOT_INJECTED = "not injected"


@dataclass(frozen=True)
class Outcome:
    """A scenario that was run: `seen` in a sentence, `broken` the invariants that did not hold after it."""

    name: str
    verdict: Verdict
    seen: str
    taken_s: float
    sent: int
    failed: int
    spares: bool
    broken: tuple[str, ...]


def expect(holds: bool, otherwise: str) -> None:
    """Raise NotHeld with what was seen unless what is right holds."""
    if not holds:
        raise NotHeld(otherwise)
