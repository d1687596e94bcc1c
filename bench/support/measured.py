"""What a benchmark found, and the limits that it is held to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Bound(StrEnum):
    """Which side of a limit is good."""

    AT_LEAST = ">="
    AT_MOST = "<="


@dataclass(frozen=True)
class Limit:
    """A promise about one figure; `aim` is what would be better still."""

    figure: str
    bound: Bound
    value: float
    aim: float | None = None

    def met(self, found: float) -> bool:
        """Whether a figure keeps the promise; NaN never does."""
        return _holds(found, self.bound, self.value)

    def reached(self, found: float) -> bool | None:
        """Whether a figure reaches the aim; None without one."""
        return None if self.aim is None else _holds(found, self.bound, self.aim)


@dataclass(frozen=True)
class Measured:
    """The outcome of a benchmark: `figures` and `samples` carry their units in their names.

    `about` says in a sentence what was done; `samples` holds single runs behind the figures. Every limit
    names a figure. `tried` is a table of what was done one after the other, a mapping a row.
    """

    about: str
    figures: Mapping[str, float]
    limits: tuple[Limit, ...]
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)
    tried: Sequence[Mapping[str, str]] = ()


def _holds(found: float, bound: Bound, value: float) -> bool:
    return found >= value if bound is Bound.AT_LEAST else found <= value
