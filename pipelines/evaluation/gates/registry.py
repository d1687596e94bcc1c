"""The gates that a version has to pass, in the order in which they are measured and reported.

What is known of gates elsewhere comes from here: the sections of a policy, what may be overridden, the documents.
Nothing heavy is imported: API and command line read policies and overrides by it.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from pydantic import create_model

from pipelines.domain.policy import Frame, Policy, upgraded
from pipelines.domain.promotion import Override
from pipelines.domain.sections import Section, read_section
from pipelines.errors import PolicyInvalid
from pipelines.evaluation.gates.bundle.artifact_safety import ARTIFACT_SAFETY
from pipelines.evaluation.gates.bundle.digest import DIGEST
from pipelines.evaluation.gates.bundle.golden_rows import GOLDEN_ROWS
from pipelines.evaluation.gates.bundle.parity import PARITY
from pipelines.evaluation.gates.bundle.schema import SCHEMA
from pipelines.evaluation.gates.data.drift import DRIFT
from pipelines.evaluation.gates.data.leakage import LEAKAGE
from pipelines.evaluation.gates.data.training_rows import TRAINING_ROWS
from pipelines.evaluation.gates.gate import Gate, Need, NoLimits, OnSets
from pipelines.evaluation.gates.groups.fairness import FAIRNESS
from pipelines.evaluation.gates.groups.slices import SLICES
from pipelines.evaluation.gates.quality.accuracy import ACCURACY
from pipelines.evaluation.gates.quality.calibration import CALIBRATION
from pipelines.evaluation.gates.quality.comparison import COMPARISON
from pipelines.evaluation.gates.quality.quality import QUALITY
from pipelines.evaluation.gates.quality.r2 import R2
from pipelines.evaluation.gates.robustness.robustness import ROBUSTNESS
from pipelines.evaluation.gates.service.environment import ENVIRONMENT
from pipelines.evaluation.gates.service.resources import RESOURCES
from pipelines.evaluation.gates.service.shadow import SHADOW
from pipelines.evaluation.gates.service.slo import SLO
from pipelines.evaluation.gates.service.smoke import SMOKE

AnyGate = Gate[Any, Any, Any]


class Gates:
    """A list of gates, and what follows from it."""

    def __init__(self, gates: Sequence[AnyGate]) -> None:
        self.all = tuple(gates)

    @property
    def of_the_bundle(self) -> tuple[AnyGate, ...]:
        """Gates over a bundle's bytes; nothing of it is run before all of them said yes."""
        return tuple(gate for gate in self.all if not gate.needs)

    @property
    def of_the_model(self) -> tuple[AnyGate, ...]:
        """Gates over what the model answers, which need no running service."""
        return tuple(gate for gate in self.all if gate.needs and Need.SERVICE not in gate.needs)

    @property
    def on_named_sets(self) -> tuple[AnyGate, ...]:
        """Gates that may be measured on further evaluation sets, too."""
        return tuple(gate for gate in self.of_the_model if gate.on_sets is not OnSets.NONE)

    @property
    def of_the_service(self) -> tuple[AnyGate, ...]:
        """Gates over the version as it runs in staging; each is measured only if those before it said yes."""
        return tuple(gate for gate in self.all if Need.SERVICE in gate.needs)

    @property
    def overridable(self) -> frozenset[str]:
        """Names of the gates that a person may accept as not passed."""
        return frozenset(gate.name for gate in self.all if gate.overridable)

    @cached_property
    def policy_model(self) -> type[Section]:
        """What a policy file may say: the frame, and the limits of every gate."""
        top: dict[str, Any] = {}
        inner: dict[str, Any] = {}
        for gate in self.all:
            if gate.limits is not NoLimits:
                section, _, name = gate.place.rpartition(".")
                (inner if section else top)[name] = (gate.limits, gate.limits())
        gates = create_model("Gates", __base__=Section, __doc__="Limits of the gates, by their names.", **inner)
        document = "What a version must show before production."
        return create_model("Policy", __base__=Frame, __doc__=document, gates=(gates, gates()), **top)

    def read_policy(self, body: object) -> Policy:
        """Return the policy of a parsed file, with all defaults written out; raise PolicyInvalid naming the key."""
        given = read_section(self.policy_model, upgraded(body), "policy")
        policy = Policy.read(given.as_json())
        for gate in self.all:
            gate.limits_of(policy)
        for name, named in (given.model_dump()["evaluation"]["sets"] or {}).items():
            self._check_set(name, named["gates"], policy)
        return policy

    def _check_set(self, name: str, limits: dict[str, Any], policy: Policy) -> None:
        """Refuse what is no limit on a further set as it was written: an empty key is not kept."""
        repeated = {gate.name: gate for gate in self.on_named_sets}
        path = f"policy.evaluation.sets.{name}.gates"
        for gate, written in limits.items():
            if gate not in repeated:
                raise PolicyInvalid(
                    f"{path} has {gate[:60]!r}, which is not measured on further sets",
                    next=f"known there: {', '.join(repeated)}",
                )
            if name in repeated[gate].parts:
                raise PolicyInvalid(
                    f"policy.evaluation.sets.{name} is called as the result {gate}.{name} is",
                    next="give the set another name",
                )
            read_section(repeated[gate].limits, written, f"{path}.{gate}")
        for found in repeated.values():
            if name in found.sets(policy):
                found.limits_on(name, policy)

    def read_override(self, names: Iterable[str], reason: str | None) -> Override | None:
        """Return what a person asks to override, None for nothing; raise UsageError when it can't be."""
        return Override.parse(names, reason, overridable=self.overridable)


GATES = Gates(
    (
        DIGEST,
        ARTIFACT_SAFETY,
        GOLDEN_ROWS,
        SCHEMA,
        PARITY,
        TRAINING_ROWS,
        DRIFT,
        LEAKAGE,
        ACCURACY,
        R2,
        QUALITY,
        CALIBRATION,
        COMPARISON,
        SLICES,
        FAIRNESS,
        ROBUSTNESS,
        SMOKE,
        ENVIRONMENT,
        SHADOW,
        SLO,
        RESOURCES,
    )
)
