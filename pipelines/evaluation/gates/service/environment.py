"""Gate: staging, where the version was measured, differs from production in nothing but what the policy allows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from pipelines.domain.verdict import GateResult, Table, Verdict
from pipelines.errors import DeployFailed
from pipelines.evaluation.gates.gate import Gate, Limits, Need
from pipelines.evaluation.gates.service.runtime import Runtime, ask_runtime
from pipelines.evaluation.gates.service.world import Service

Part = Literal["code", "packages", "settings", "limits", "network", "secrets", "user"]
_SAID: Mapping[Part, Callable[[Runtime], Any]] = {
    "code": lambda runtime: runtime.code,
    "packages": lambda runtime: {"python": runtime.python, **runtime.packages},
    "settings": lambda runtime: dict.fromkeys(runtime.settings, "set"),
    "limits": lambda runtime: runtime.limits,
    "network": lambda runtime: dict.fromkeys(runtime.network, "there"),
    "secrets": lambda runtime: dict.fromkeys(runtime.secrets, "there"),
    "user": lambda runtime: runtime.user,
}


class EnvironmentLimits(Limits):
    """In what staging and production may differ."""

    may_differ: tuple[Part, ...] = Field(
        ("code", "packages"),
        strict=False,
        description="parts that may differ: code and packages of the service (a release brings its own), names of"
        " settings, limits, network, secrets, user",
    )


@dataclass(frozen=True)
class Difference:
    """What one key of a part is in staging and in production, as texts."""

    part: Part
    key: str
    staging: str
    production: str


@dataclass(frozen=True)
class Compared:
    """What differs between the two environments; `unknown` says why they could not be compared."""

    differences: tuple[Difference, ...] = ()
    unknown: str = ""
    failed: bool = False


def measure(world: Service, limits: EnvironmentLimits) -> Compared:
    """Ask a replica of each environment what it runs with."""
    assert world.production is not None
    try:
        staging, production = (ask_runtime(world.probe, url) for url in (world.url, world.production))
    except DeployFailed as failure:
        return Compared(unknown=failure.message, failed=True)
    if staging is None:
        return Compared(unknown="the replica in staging does not tell", failed=True)
    if production is None:
        return Compared(unknown="production is served by an earlier Slipway's replicas, which don't tell")
    parts = [part for part in _SAID if part != "network" or not _share_network(staging, production)]
    return Compared(tuple(each for part in parts for each in _differences(part, staging, production)))


def _share_network(staging: Runtime, production: Runtime) -> bool:
    # Its interfaces come and go, of which two replicas that are asked one after the other see different ones.
    return bool(staging.network_namespace) and staging.network_namespace == production.network_namespace


def _differences(part: Part, staging: Runtime, production: Runtime) -> list[Difference]:
    here, there = _SAID[part](staging), _SAID[part](production)
    if not isinstance(here, dict):
        here, there = {part: here}, {part: there}
    keys = sorted({*here, *there})
    return [
        Difference(part, key, _shown(here.get(key)), _shown(there.get(key)))
        for key in keys
        if here.get(key) != there.get(key)
    ]


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def judge(compared: Compared, limits: EnvironmentLimits) -> list[GateResult]:
    """Pass where all that differs may differ."""
    if compared.unknown:
        verdict = Verdict.ERROR if compared.failed else Verdict.NOT_APPLICABLE
        said = f"ERROR: environment: {compared.unknown}" if compared.failed else compared.unknown
        return [GateResult("environment", verdict, said)]
    wrong = [each for each in compared.differences if each.part not in limits.may_differ]
    columns = ("part", "what", "staging", "production", "allowed")
    rows = tuple(
        (each.part, each.key, each.staging, each.production, "yes" if each.part in limits.may_differ else "no")
        for each in (*wrong, *(each for each in compared.differences if each not in wrong))
    )
    table = Table(columns, rows).printable() if rows else None
    if wrong:
        told = "; ".join(f"{each.part} {each.key}: {each.staging}, in production {each.production}" for each in wrong)
        message = f"FAIL: environment: staging is not like production: {told}"
        return [GateResult("environment", Verdict.FAILED, message, observed=float(len(wrong)), limit=0.0, table=table)]
    allowed = ", ".join(sorted({each.part for each in compared.differences}))
    said = f"staging differs from production in {allowed}, which it may" if allowed else "staging is like production"
    return [
        GateResult("environment", Verdict.PASSED, f"PASS environment: {said}", observed=0.0, limit=0.0, table=table)
    ]


ENVIRONMENT = Gate(
    name="environment",
    description="What was measured in staging holds for production only as far as both are alike. A replica of each"
    " says what it runs with: code and packages of the service, names of its settings, its limits, network, secrets and"
    " user. What the policy does not list as what may differ has to be the same. Code and packages may, since a release"
    " brings those that it was measured with.",
    limits=EnvironmentLimits,
    measure=measure,
    judge=judge,
    needs=frozenset({Need.SERVICE, Need.PRODUCTION}),
    unless="nothing serves production yet that staging could be compared with",
    overridable=True,
    step="staging beside production",
    advice='see what differs, and bring both into line with "make up", or list it in gates.environment.may_differ',
)
