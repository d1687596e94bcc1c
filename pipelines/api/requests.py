"""What routes are given: who asks, about which model, and what there is to answer from.

No route is entered with a request about a model that the installation does not have.
"""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from pipelines.api.state import ApiState
from pipelines.domain.promotion import Override
from pipelines.domain.texts import MAX_CHARS, checked_text
from pipelines.evaluation.gates.registry import GATES
from pipelines.governance.models import check_known, check_served


def _state(request: Request) -> ApiState:
    state: ApiState = request.app.state.slipway
    return state


def _person(request: Request) -> str:
    person: str = request.state.person
    return person


def _encodable(name: str) -> str:
    # Half a surrogate pair raises a ValueError here; no answer could carry it.
    name.encode()
    return name


# What is compared with what is known, and refused where it is not the same.
Name = Annotated[str, AfterValidator(_encodable)]
# What people write and others read.
Text = Annotated[str, AfterValidator(checked_text), Field(json_schema_extra={"maxLength": MAX_CHARS})]
# An id, which is refused where there is none.
Before = Annotated[Name | None, Query(description="Of those older than this one only, by its id.")]
State = Annotated[ApiState, Depends(_state)]
Person = Annotated[str, Depends(_person)]


class RequestBody(BaseModel):
    """What asks for a change of a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Name | None = Field(
        None, description="The registered model that the request is about; the installation's default one, if none is."
    )

    def model_of(self, state: ApiState) -> str:
        """Return the model, which is one of the installation's; raise UnknownModel, or UsageError if it was removed."""
        return check_served(state.records, state.model, state.model if self.model is None else self.model)


class VersionRequest(RequestBody):
    """Asks for an evaluation or a promotion."""

    version: Text | None = Field(None, description="Which version; the one registered last, if none is named.")
    override_reason: Text | None = Field(None, description="Why the named gates may be passed over.")
    override_gates: list[Text] = Field([], max_length=100, description="The gates that may be passed over.")

    def override(self) -> Override | None:
        """Return the override asked for, checked."""
        return GATES.read_override(self.override_gates, self.override_reason)


def _asked_model(
    state: State,
    model: Annotated[
        Name | None,
        Query(description="The registered model that is asked about; the installation's default one, if none is."),
    ] = None,
) -> str:
    return state.model if model is None else check_known(state.records, state.model, model)


# The model that a reading route is asked about: one with a history in this installation.
Model = Annotated[str, Depends(_asked_model)]


def _read(state: State, model: Model) -> ApiState:
    return state


# What a reading route works with: whoever names a model that is not there is refused.
Reading = Annotated[ApiState, Depends(_read)]


# So many records are listed at once.
LISTED = 1000


def now() -> str:
    """Return the time of a request: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
