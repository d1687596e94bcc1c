"""What the service says of itself: every answer in its OpenAPI, and /docs that needs no other host.

The forms come from the msgspec types that are sent, so that the description can't say something else.
"""

from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from app.errors import ErrorReply

REQUEST_ID = "X-Request-Id"
_REF = "#/components/schemas/{name}"
_MEANING = {
    HTTPStatus.BAD_REQUEST: "The body is not JSON.",
    HTTPStatus.REQUEST_TIMEOUT: "The body did not come in time.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than the route takes.",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "The body is something else than plain application/json.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Fields are missing, unknown or wrong, or the model has no prediction for them.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "The service failed; see its log.",
    HTTPStatus.SERVICE_UNAVAILABLE: "No release is deployed here, or too much is under way (then with Retry-After).",
    HTTPStatus.GATEWAY_TIMEOUT: "The work was not done by its deadline.",
}
_REQUEST_ID_HEADER = {
    "description": "The request's id: taken over where the request has a plain one, else made.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
}


class DescribedApi:
    """Makes the FastAPI application whose description holds the types of `answers`, and all that they refer to."""

    def __init__(self, answers: tuple[type[msgspec.Struct], ...], *, title: str, version: str) -> None:
        self._answers = answers
        self._document: dict[str, Any] | None = None
        self.app: FastAPI = FastAPIOffline(redoc_url=None, title=title, version=version, redirect_slashes=False)
        self._describe = self.app.openapi
        self.app.openapi = self.openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self._document is None:
            document = self._describe()
            _, schemas = msgspec.json.schema_components([*self._answers, ErrorReply], ref_template=_REF)
            document.setdefault("components", {}).setdefault("schemas", {}).update(schemas)
            _leave_out_validation(document)
            self._document = document
        return self._document


def _leave_out_validation(document: dict[str, Any]) -> None:
    """Leave out the refusal that FastAPI describes for every parameter: those of this service take any text."""
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    unknown = {"schema": {"$ref": _REF.format(name="HTTPValidationError")}}
    for path in document["paths"].values():
        for operation in path.values():
            answers = operation["responses"]
            if unknown in answers.get("422", {}).get("content", {}).values():
                del answers["422"]


def answer(kind: type[msgspec.Struct], meaning: str, *, with_request_id: bool = False) -> dict[str, Any]:
    """Describe an answer of the form `kind`, which the application's `DescribedApi` has to know."""
    schema = {"$ref": _REF.format(name=kind.__name__)}
    described: dict[str, Any] = {"description": meaning, "content": {"application/json": {"schema": schema}}}
    if with_request_id:
        described["headers"] = {REQUEST_ID: _REQUEST_ID_HEADER}
    return described


def refusals() -> dict[int | str, dict[str, Any]]:
    """Describe every refusal of a prediction."""
    return {int(status): answer(ErrorReply, text, with_request_id=True) for status, text in _MEANING.items()}
