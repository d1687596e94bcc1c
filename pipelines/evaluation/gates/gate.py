"""What a gate is: measuring, which may ask the world, and judging, which is pure, with the limits in between.

A gate is one file that says all of this, and one line in `registry.py`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

from pydantic import Field

from pipelines.domain.policy import Policy
from pipelines.domain.sections import Section, read_section
from pipelines.domain.verdict import GateResult, Verdict


class Need(StrEnum):
    """What a gate is measured with, beside the bytes of the version's own bundle."""

    MODEL = "model"
    EVALUATION_SET = "evaluation set"
    PREDICTIONS = "predictions of the training"
    CHAMPION = "champion"
    CLASSES = "classes to predict"
    NUMBER = "a number to predict"
    PROTECTED = "protected attributes"
    SERVICE = "running service"
    PRODUCTION = "what serves production"


class OnSets(StrEnum):
    """On which of the further evaluation sets that a policy names a gate is measured, too."""

    NONE = "none"
    LIMITED = "those that the policy gives limits of it for"
    ALL = "all"


class World(Protocol):
    """What a gate measures: `offline.Offline`, or `service.Service` once the version runs in staging."""

    @property
    def present(self) -> frozenset[Need]:
        """What there is to measure with."""


class NoLimits(Section):
    """The limits of a gate whose yes needs no number from the policy."""


class Limits(Section):
    """The limits of a gate that a policy may have warn only."""

    warn_only: bool = Field(False, description="show its no, and let the version go on")


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
    # The further sets that it is measured on, too; the results are then `<result>.<set>`.
    on_sets: OnSets = OnSets.NONE
    # What stands behind its name in those of its results: no set that it is measured on is called so.
    parts: frozenset[str] = frozenset()
    section: str = ""
    # What to do about its no, where training a better version is not all.
    advice: str = ""
    # What to do where it can't tell, if more rows are not all that is needed.
    undecided: str = ""
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

    def limits_on(self, set: str, policy: Policy) -> L:
        """Return the gate's limits on a set that `policy` names; raise PolicyInvalid."""
        path = f"policy.evaluation.sets.{set}.gates.{self.name}"
        limits = read_section(self.limits, policy.section_on(set, self.name, self.place), path)
        limits.check(policy.profile)
        return limits

    def sets(self, policy: Policy) -> tuple[str, ...]:
        """Return the names of the further sets of `policy` that it is measured on."""
        if self.on_sets is OnSets.NONE:
            return ()
        named = policy.evaluation.sets.items()
        return tuple(name for name, each in named if self.on_sets is OnSets.ALL or self.name in each.gates)

    def set_of(self, result: GateResult, policy: Policy) -> str | None:
        """Return which further set of `policy` one of its results is of, None for the set in force."""
        last = result.name.removeprefix(self.name).rpartition(".")[2]
        return last if last in policy.evaluation.sets and last not in self.parts else None

    def results(self, world: W, policy: Policy) -> list[GateResult]:
        """Measure and judge, in words of one line; the gate does not apply where the world lacks what it needs.

        What a version has answered stands in its messages, and may be anything.
        """
        return [result.printable() for result in self._judged(world, self.limits_of(policy))]

    def results_on(self, set: str, world: W, policy: Policy) -> list[GateResult]:
        """Do the same with the world over a set that the policy names, under the names `<result>.<set>`."""
        found = self._judged(world, self.limits_on(set, policy))
        named = [replace(each, name=f"{each.name}.{set}", message=f"{each.message} (on {set})") for each in found]
        return [result.printable() for result in named]

    def _judged(self, world: W, limits: L) -> list[GateResult]:
        if not self.needs <= world.present:
            return [GateResult(self.name, Verdict.NOT_APPLICABLE, self.unless)]
        judged = self.judge(self.measure(world, limits), limits)
        warned = isinstance(limits, Limits) and limits.warn_only
        return [_warning(result) if warned else result for result in judged]


def _warning(result: GateResult) -> GateResult:
    if result.verdict.goes_on:
        return result
    return replace(result, warn_only=True, message=f"WARN (the policy lets it go on): {result.message}")
