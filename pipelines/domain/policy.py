"""The policy: what holds for every version whatever its gates are, and the limits of each gate by its section.

A policy is read by the version of its format. Its digest is that of the body as it is kept, because reports and
approvals are bound to it: reading an old policy must never change it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, field_serializer

from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.formats import NEWER, refuse_newer
from pipelines.domain.sections import Profile, Section, read_section
from pipelines.errors import PolicyInvalid

VERSION = 2
# Instead of the digest of an evaluation set: the one that a version brings, or else the newest that was accepted.
NEWEST = "newest"

# What a name of a set may be: it stands in the names of results.
SET_NAME = r"^[a-z][a-z0-9_]{0,39}$"
SetName = Annotated[str, Field(pattern=SET_NAME)]
_MOST_SETS = 8

AnyProfile = Annotated[Profile, Field(strict=False)]


class Approvals(Section):
    """How many people must say yes, and how long a request waits for them."""

    count: int = Field(1, ge=1, le=10, description="how many people besides the requester")
    valid_h: float = Field(24, gt=0, le=720, description="how long a promotion waits for them")


class Production(Section):
    """What may carry a version into production."""

    accepts: tuple[AnyProfile, ...] = Field(
        (Profile.FULL,), min_length=1, strict=False, description="the profiles whose reports count there"
    )


class Retention(Section):
    """How long files are kept that nothing needs any more; what a release or a way back needs is always kept."""

    rollbacks: int = Field(5, ge=1, le=100, description="how many rollbacks in a row find their bundle, however old")
    keep_versions: tuple[str, ...] = Field((), strict=False, description="versions whose bundle is never removed")
    bundle_days: float = Field(90, ge=1, le=36500, description="how long a bundle is kept after its last use")
    work_days: float = Field(14, ge=1, le=36500, description="how long files of evaluations and load runs are kept")
    journal_days: float = Field(14, ge=1, le=36500, description="how long the journal of work that has ended is kept")
    progress_days: float = Field(30, ge=1, le=36500, description="how long lines of progress are kept")


class NamedSet(Section):
    """A further evaluation set that versions are judged by, with limits of its own."""

    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="the set, as a report names it")
    gates: dict[str, dict[str, Any]] = Field(
        {}, description="limits of gates on this set, by their names; what is left out is as in the policy's own"
    )


class LiveDrift(Section):
    """When it is measured how far what production is asked is from what its version was trained on, and of which rows.

    The limits are those of the gate `drift`.
    """

    every_s: float = Field(3600, ge=0, le=31_536_000, description="how often it is measured; 0 for only when asked")
    hours: float = Field(24, gt=0, le=8760, description="of the rows that were asked in so many hours")
    minimum_rows: int = Field(100, ge=1, description="with fewer rows of either side nothing is said")


class RequestLog(Section):
    """What is kept of the requests that are served: a sample of rows with their answers, never a header."""

    rate: float = Field(1.0, ge=0, le=1, description="the share of answered rows that is sampled; 0 for none")
    without: tuple[str, ...] = Field((), strict=False, max_length=1000, description="features that are not kept")
    staging: bool = Field(False, description="whether those of staging are sampled too")
    every_s: float = Field(10, ge=1, le=3600, description="how often replicas are asked for what they have sampled")
    ring_rows: int = Field(1000, ge=1, le=10_000, description="rows that a replica holds until it is asked")
    days: float = Field(14, ge=1, le=3660, description="how long sampled requests and labels are kept")
    megabytes: int = Field(512, ge=1, le=1_000_000, description="how much they may take; the oldest go first")
    drift: LiveDrift = LiveDrift()


class EvaluationBounds(Section):
    """What measuring a version may take."""

    deadline_s: float = Field(7200, gt=0, le=86_400, description="seconds of one evaluation, from its start")
    job_s: float = Field(300, gt=0, le=3600, description="seconds of a confined job that reads a version's files")
    job_memory_mb: int = Field(2048, ge=512, le=65_536, description="memory of such a job")
    set: str = Field(
        NEWEST,
        pattern=rf"^({NEWEST}|sha256:[0-9a-f]{{64}})$",
        description="the evaluation set in force: the newest, or the one of a digest",
    )
    sets: dict[SetName, NamedSet] = Field(
        {}, max_length=_MOST_SETS, description="further sets by name, on each of which the quality has to do as well"
    )

    @field_serializer("sets", mode="wrap")
    def _none_without_any(self, sets: dict[str, NamedSet], serialize: SerializerFunctionWrapHandler) -> Any:
        """Leave out what names nothing: policies were put in force before there were further sets."""
        return serialize(sets) if sets else None

    @property
    def digests(self) -> frozenset[str]:
        """The digests of all sets that are named."""
        return frozenset({self.set, *(each.digest for each in self.sets.values())} - {NEWEST})


class Frame(Section):
    """What a policy says beside the limits of gates."""

    schema_version: int = Field(ge=VERSION, le=VERSION, description="the form of the policy")
    profile: AnyProfile = Field(description="how thorough the evidence is; reports are marked with it")
    approvals: Approvals = Approvals()
    production: Production = Production()
    evaluation: EvaluationBounds = EvaluationBounds()
    retention: Retention = Retention()
    requests: RequestLog = RequestLog()


@dataclass(frozen=True)
class Policy:
    """A policy, with the body as it is kept; the limits of a gate are made of `section`."""

    profile: Profile
    approvals: Approvals
    production: Production
    evaluation: EvaluationBounds
    retention: Retention
    requests: RequestLog
    body: dict[str, Any]

    @classmethod
    def read(cls, body: object) -> "Policy":
        """Read a policy that is kept, in whatever version; raise PolicyInvalid for a newer one than is known.

        The limits of gates are left for those who judge by them: a gate that knows more today stops nothing else.
        """
        current = upgraded(body)
        frame = read_section(Frame, {key: current[key] for key in Frame.model_fields if key in current}, "policy")
        kept: dict[str, Any] = dict(body) if isinstance(body, Mapping) else {}
        return cls(
            profile=frame.profile,
            approvals=frame.approvals,
            production=frame.production,
            evaluation=frame.evaluation,
            retention=frame.retention,
            requests=frame.requests,
            body=kept,
        )

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the canonical body: comments, key order and spelling of the file do not count."""
        return digest_of(canonical(self.body))

    def section_on(self, set: str, gate: str, path: str) -> Mapping[str, Any]:
        """Return what the policy says of a gate on a named set: the set's own keys, over those of its section."""
        return _over(self.evaluation.sets[set].gates.get(gate, {}), self.section(path))

    def section(self, path: str) -> Mapping[str, Any]:
        """Return what the policy says in a section such as `gates.accuracy`; nothing where it is left out."""
        found: Mapping[str, Any] = upgraded(self.body)
        for key in path.split("."):
            found = found.get(key, {})
        return found


def _over(given: Mapping[str, Any], section: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section with what is given in place of its own, key by key also in the sections that it holds."""
    inner = {key: _over(each, section.get(key) or {}) for key, each in given.items() if isinstance(each, Mapping)}
    return {**section, **given, **inner}


def upgraded(body: object) -> dict[str, Any]:
    """Return a policy of any known version in today's form; raise PolicyInvalid for other versions."""
    if not isinstance(body, Mapping):
        raise PolicyInvalid(f"policy is {str(body)[:60]!r}", next="give a section with keys")
    if "schema_version" not in body:
        raise PolicyInvalid("policy key 'schema_version' is missing in policy", next=f"today's is {VERSION}")
    current, version = dict(body), body["schema_version"]
    if type(version) is not int:
        raise PolicyInvalid(f"policy.schema_version is {str(version)[:60]!r}", next="give a whole number")
    written = f"{NEWER}, or write the policy in version {VERSION}"
    refuse_newer("the policy (schema_version)", found=version, known=VERSION, next=written, kind=PolicyInvalid)
    if version < 1:
        raise PolicyInvalid("policy.schema_version is out of range", next=f"legal: 1 to {VERSION}")
    for known in range(version, VERSION):
        current = _UPGRADES[known](current)
    return current


def _from_version_1(body: dict[str, Any]) -> dict[str, Any]:
    """Version 1 had no defaults: each key had to be given, and without `slo.comparison` nothing was compared."""
    for path, keys in _NEEDED_IN_VERSION_1.items():
        section: Any = body
        for name in path.split(".")[1:]:
            section = section[name]
        if not isinstance(section, Mapping):
            raise PolicyInvalid(f"{path} is {str(section)[:60]!r}", next="give a section with keys")
        for key in keys:
            if key not in section:
                raise PolicyInvalid(
                    f"policy key {key!r} is missing in {path}",
                    next=f"version 1 has no defaults: give it, or write schema_version: {VERSION}",
                )
    compared = body["slo"].get("comparison", {})
    if not isinstance(compared, Mapping):
        raise PolicyInvalid(f"policy.slo.comparison is {str(compared)[:60]!r}", next="give a section with keys")
    return {**body, "schema_version": 2, "slo": {"comparison": False, **body["slo"]}}


_NEEDED_IN_VERSION_1 = {
    "policy": ("profile", "gates", "slo", "approvals", "production"),
    "policy.gates": ("accuracy", "comparison", "parity"),
    "policy.gates.accuracy": ("minimum",),
    "policy.gates.comparison": ("margin",),
    "policy.gates.parity": ("tolerance",),
    "policy.slo": (
        "route", "rate_per_s", "arrivals", "warmup_s", "duration_s", "extension", "quantiles", "max_error_rate",
        "max_stall_s", "timeout_s",
    ),
    "policy.approvals": ("count", "valid_h"),
    "policy.production": ("accepts",),
}  # fmt: skip
_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_version_1}
