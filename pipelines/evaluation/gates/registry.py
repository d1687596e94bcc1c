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
from pipelines.evaluation.gates.gate import Gate, Need, NoLimits
from pipelines.evaluation.gates.offline.accuracy import ACCURACY
from pipelines.evaluation.gates.offline.artifact_safety import ARTIFACT_SAFETY
from pipelines.evaluation.gates.offline.comparison import COMPARISON
from pipelines.evaluation.gates.offline.digest import DIGEST
from pipelines.evaluation.gates.offline.golden_rows import GOLDEN_ROWS
from pipelines.evaluation.gates.offline.parity import PARITY
from pipelines.evaluation.gates.offline.r2 import R2
from pipelines.evaluation.gates.offline.schema import SCHEMA
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
        policy = Policy.read(read_section(self.policy_model, upgraded(body), "policy").as_json())
        for gate in self.all:
            gate.limits_of(policy)
        return policy

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
        ACCURACY,
        R2,
        COMPARISON,
        SMOKE,
        SLO,
    )
)
