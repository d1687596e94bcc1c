"""What a gate is: measuring, which may ask the world, and judging, which is pure, with the limits in between.

A gate is one file that says all of this, and one line in `registry.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from pipelines.domain.policy import Policy
from pipelines.domain.sections import Section, read_section
from pipelines.domain.texts import one_line
from pipelines.domain.verdict import GateResult, Verdict


class Need(StrEnum):
    """What a gate is measured with, beside the bytes of the version's own bundle."""

    MODEL = "model"
    EVALUATION_SET = "evaluation set"
    PREDICTIONS = "predictions of the training"
    CHAMPION = "champion"
    CLASSES = "classes to predict"
    NUMBER = "a number to predict"
    SERVICE = "running service"


class World(Protocol):
    """What a gate measures: `offline.Offline`, or `service.Service` once the version runs in staging."""

    @property
    def present(self) -> frozenset[Need]:
        """What there is to measure with."""


class NoLimits(Section):
    """The limits of a gate whose yes needs no number from the policy."""


W = TypeVar("W", bound=World)
L = TypeVar("L", bound=Section)
M = TypeVar("M")


def _never(limits: Any) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Gate(Generic[W, L, M]):
    """One rule that a version has to meet.

    `limits` is its section of the policy, found at `section` (`gates.<name>` unless said otherwise). Where something
    of `needs` is absent the gate does not apply, and `unless` says why. `description` is a paragraph for people.
    """

    name: str
    description: str
    limits: type[L]
    measure: Callable[[W, L], M]
    judge: Callable[[M, L], Sequence[GateResult]]
    needs: frozenset[Need] = frozenset()
    unless: str = ""
    overridable: bool = False
    section: str = ""
    # Progress shows it, while a service is measured.
    step: str = ""
    # The check that has the champion serve beside the version, by these limits; None where none does.
    beside: Callable[[L], str | None] = field(default=_never)

    @property
    def place(self) -> str:
        """Where the limits stand in a policy."""
        return self.section or f"gates.{self.name}"

    def limits_of(self, policy: Policy) -> L:
        """Return the gate's limits in `policy`, with the defaults of what it leaves out; raise PolicyInvalid."""
        limits = read_section(self.limits, policy.section(self.place), f"policy.{self.place}")
        limits.check(policy.profile)
        return limits

    def results(self, world: W, policy: Policy) -> list[GateResult]:
        """Measure and judge, in words of one line; the gate does not apply where the world lacks what it needs.

        What a version has answered stands in its messages, and may be anything.
        """
        if not self.needs <= world.present:
            return [GateResult(self.name, Verdict.NOT_APPLICABLE, self.unless)]
        limits = self.limits_of(policy)
        judged = self.judge(self.measure(world, limits), limits)
        return [replace(result, message=one_line(result.message)) for result in judged]
