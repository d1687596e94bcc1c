"""The forms that several routes answer in, and what each status of a refusal means."""

import json
from typing import Annotated, Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

Time = Annotated[str, Field(description="ISO 8601, UTC.")]
Digest = Annotated[str, Field(description="SHA-256, as `sha256:` and 64 hexadecimal digits.")]
Version = Annotated[str, Field(description="Number of the version in the model registry, as text.")]
ModelName = Annotated[str, Field(description="The registered model.")]
PersonName = Annotated[str, Field(description="Whose token it was.")]

_MEANING = {
    400: "The request can't be carried out as it was asked.",
    401: "No token, or none that is valid.",
    403: "The caller is not the person who may do this.",
    404: "No such model, or no such registered version.",
    409: "A rule or a person stands against it.",
    413: "The body is larger than a megabyte.",
    429: "One person, or all together, may not have as many requests or streams of events; with Retry-After.",
    422: "The request has not the form that the route takes.",
    503: "The database or the model registry does not answer; nothing was changed.",
}


def ascii_json(text: str) -> str:
    """Return JSON in ASCII without the one character of it that nobody sees."""
    return text.replace("\x7f", "\\u007f")


class AsciiJson(JSONResponse):
    """JSON in which characters that nobody sees are escapes, for those who look at it on a terminal."""

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return ascii_json(json.dumps(content, allow_nan=False, separators=(",", ":"))).encode()


class ResponseBody(BaseModel):
    """What a route answers: exactly these fields, made from a record's attributes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, from_attributes=True)


class Refusal(ResponseBody):
    """Why something is not done."""

    code: str = Field(description="The kind of refusal; the command line's exit code follows from it.")
    message: str = Field(description="What failed, with its value.")
    next: str = Field(description="What to do about it.")


class ErrorResponse(ResponseBody):
    """The one form of every refusal."""

    error: Refusal


class Asked(ResponseBody):
    """Work that was written down, and that the executor carries out."""

    id: str = Field(description="The work's id: GET the same route with it for state and steps.")


class AskedVersion(Asked):
    """Work on a version that was written down."""

    version: Version


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the refusals that a route answers with, for its `responses`."""
    return {status: {"model": ErrorResponse, "description": _MEANING[status]} for status in statuses}
