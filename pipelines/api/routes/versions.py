"""/versions: what is registered."""

from pydantic import Field

from pipelines.api.guard import guarded_router
from pipelines.api.requests import Reading
from pipelines.api.responses import ModelName, ResponseBody, Version

router = guarded_router("versions")


class RegisteredVersion(ResponseBody):
    """A version as the model registry knows it."""

    version: Version
    run_id: str | None = Field(description="The training run; null for a version that came from elsewhere.")
    tags: dict[str, str] = Field(description="Tags by name, those of Slipway among them.")
    aliases: list[str] = Field(description="Aliases that point at this version, sorted.")


class Versions(ResponseBody):
    """All registered versions, newest first."""

    model: ModelName
    versions: list[RegisteredVersion]


@router.get("")
def list_versions(state: Reading) -> Versions:
    """List the registered versions, newest first."""
    found = [RegisteredVersion.model_validate(row) for row in state.versions.versions(state.model)]
    return Versions(model=state.model, versions=found)
