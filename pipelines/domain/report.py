"""A report: the frozen facts of one evaluation, whose digest is what people approve.

Its verdict counts every gate, whatever was overridden.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.formats import NEWER, refuse_newer
from pipelines.domain.sections import Profile
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import UsageError

VERSION: Literal[1] = 1


class _Facts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_serialization_defaults_required=True)


class Compared(_Facts):
    """The release that a version was compared with: what served production then."""

    release: str
    version: str
    bundle_digest: str


class Report(_Facts):
    """What was measured of a version, on what, and by which limits."""

    schema_version: Literal[1] = VERSION
    model: str
    version: str
    bundle_digest: str
    policy_digest: str = Field(description="of the policy that gave the limits")
    profile: Profile = Field(description="the policy's")
    evalset_digest: str = Field(description="of the evaluation set")
    evalset_version: str | None = Field(
        None, description="the version that brought the evaluation set; null in reports written before this was kept"
    )
    champion: Compared | None = Field(description="null where nothing served production")
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
        body = self.model_dump(mode="json")
        if self.evalset_version is None:
            # People approved reports by the digest of a form without it.
            del body["evalset_version"]
        return body

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the canonical report."""
        return digest_of(canonical(self.as_json()))


def describe() -> dict[str, Any]:
    """Return the JSON Schema of `report.json`."""
    return Report.model_json_schema(mode="serialization")
