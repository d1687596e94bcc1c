"""/versions: what is registered."""

from typing import Annotated

from fastapi import Query
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
    cut: bool = Field(description="Whether it has more tags, or longer ones, than are shown.")


class Versions(ResponseBody):
    """Registered versions, newest first."""

    model: ModelName
    versions: list[RegisteredVersion]
    more: bool = Field(description="Whether there are older ones: ask again with `before`.")


@router.get("")
def list_versions(
    state: Reading,
    before: Annotated[
        int | None, Query(ge=1, le=999_999_999, description="Of versions older than this one only.")
    ] = None,
) -> Versions:
    """List the registered versions, newest first, up to a thousand."""
    found, more = state.versions.versions(state.model, before)
    return Versions(model=state.model, versions=[RegisteredVersion.model_validate(row) for row in found], more=more)
