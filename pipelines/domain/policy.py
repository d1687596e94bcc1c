"""The policy: what holds for every version whatever its gates are, and the limits of each gate by its section.

A policy is read by the version of its format. Its digest is that of the body as it is kept, because reports and
approvals are bound to it: reading an old policy must never change it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.formats import NEWER, refuse_newer
from pipelines.domain.sections import Profile, Section, read_section
from pipelines.errors import PolicyInvalid

VERSION = 2

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


class EvaluationBounds(Section):
    """What measuring a version may take."""

    deadline_s: float = Field(7200, gt=0, le=86_400, description="seconds of one evaluation, from its start")
    job_s: float = Field(300, gt=0, le=3600, description="seconds of a confined job that reads a version's files")
    job_memory_mb: int = Field(2048, ge=512, le=65_536, description="memory of such a job")


class Frame(Section):
    """What a policy says beside the limits of gates."""

    schema_version: int = Field(ge=VERSION, le=VERSION, description="the form of the policy")
    profile: AnyProfile = Field(description="how thorough the evidence is; reports are marked with it")
    approvals: Approvals = Approvals()
    production: Production = Production()
    evaluation: EvaluationBounds = EvaluationBounds()
    retention: Retention = Retention()


@dataclass(frozen=True)
class Policy:
    """A policy, with the body as it is kept; the limits of a gate are made of `section`."""

    profile: Profile
    approvals: Approvals
    production: Production
    evaluation: EvaluationBounds
    retention: Retention
    body: dict[str, Any]

    @classmethod
    def read(cls, body: object) -> "Policy":
        """Read a policy that is kept, in whatever version; raise PolicyInvalid for a newer one than is known.

        The limits of gates are left for those who judge by them: a gate that knows more today stops nothing else.
        """
        current = upgraded(body)
        frame = read_section(Frame, {key: current[key] for key in Frame.model_fields if key in current}, "policy")
        kept: dict[str, Any] = dict(body) if isinstance(body, Mapping) else {}
        return cls(frame.profile, frame.approvals, frame.production, frame.evaluation, frame.retention, kept)

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the canonical body: comments, key order and spelling of the file do not count."""
        return digest_of(canonical(self.body))

    def section(self, path: str) -> Mapping[str, Any]:
        """Return what the policy says in a section such as `gates.accuracy`; nothing where it is left out."""
        found: Mapping[str, Any] = upgraded(self.body)
        for key in path.split("."):
            found = found.get(key, {})
        return found


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
