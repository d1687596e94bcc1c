"""A report: the frozen facts of one evaluation, whose digest is what people approve.

Its verdict counts every gate, whatever was overridden.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.description import Task
from pipelines.domain.figures import Figures
from pipelines.domain.formats import NEWER, refuse_newer
from pipelines.domain.sections import Profile
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import UsageError

VERSION: Literal[2] = 2
# People approved reports by the digest of a form without what was added since.
_LATER = (
    "evalset_version",
    "evalset_number",
    "evalsets",
    "gates_digest",
    "breaking",
    "task",
    "classes",
    "schema_changes",
    "figures",
)


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_serialization_defaults_required=True)


class Compared(_Facts):
    """The release that a version was compared with: what served production then."""

    release: str
    version: str
    bundle_digest: str


class Breaking(_Facts):
    """What a version changes for clients of the release that it was compared with, and why, as it declares."""

    reason: str
    changes: tuple[str, ...] = Field(description="why requests would be refused, or answered otherwise")


class Report(_Facts):
    """What was measured of a version, on what, and by which limits."""

    schema_version: Literal[1, 2] = VERSION
    model: str
    version: str
    bundle_digest: str
    policy_digest: str = Field(description="of the policy that gave the limits")
    profile: Profile = Field(description="the policy's")
    evalset_digest: str = Field(description="of the evaluation set")
    evalset_version: str | None = Field(
        None, description="the version that brought the evaluation set; null in reports written before this was kept"
    )
    evalset_number: int | None = Field(
        None, description="which of the model's evaluation sets it is, 1 the first; absent as above"
    )
    evalsets: dict[str, str] | None = Field(
        None, description="the digests of the further evaluation sets, by the policy's names; absent where it has none"
    )
    gates_digest: str | None = Field(
        None, description="of the code that measured and judged; absent where none is known, or more than one did"
    )
    champion: Compared | None = Field(description="null where nothing served production")
    breaking: Breaking | None = Field(None, description="absent where clients have nothing to change")
    task: Task | None = Field(
        None, description="what the version answers; absent in reports of before, as what follows"
    )
    classes: tuple[str, ...] | None = Field(
        None, description="texts of the classes by their position in the bundle, the first hundred"
    )
    schema_changes: tuple[str, ...] | None = Field(
        None, description="how requests and answers differ from the champion's; absent without one"
    )
    figures: Figures | None = Field(None, description="what the plots are drawn from; absent where none were taken")
    gates: tuple[GateResult, ...]
    verdict: Verdict = Field(description="the worst of all gates, overridden ones included")
    created_at: str = Field(description="ISO 8601, UTC")

    @classmethod
    def read(cls, body: dict[str, Any]) -> "Report":
        """Read a report that is kept; raise UsageError for one that a newer Slipway wrote, or that is none."""
        refuse_newer("the report", found=body.get("schema_version"), known=VERSION, next=f"{NEWER}, or evaluate again")
        try:
            return cls.model_validate(body)
        except ValidationError as invalid:
            first = invalid.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise UsageError(f"a report can't be read: {where}: {first['msg']}", next="evaluate again") from None

    def as_json(self) -> dict[str, Any]:
        """Return the form that is kept and attached."""
        body = self.model_dump(mode="json", exclude={"gates"})
        body["gates"] = [gate.as_dict() for gate in self.gates]
        return {key: value for key, value in body.items() if key not in _LATER or value is not None}

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the canonical report."""
        return digest_of(canonical(self.as_json()))


def describe() -> dict[str, Any]:
    """Return the JSON Schema of `report.json`."""
    return Report.model_json_schema(mode="serialization")
