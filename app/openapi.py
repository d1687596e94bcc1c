"""What the service says of itself: every answer in its OpenAPI, and /docs that needs no other host.

The forms come from the msgspec types that are sent, so that the description can't say something else.
"""

import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Scope

from app.errors import ErrorReply

REQUEST_ID = "X-Request-Id"
# Where the files of /docs are.
_STATIC = "static-offline-docs"
REF = "#/components/schemas/{name}"
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
    """Makes the FastAPI application whose description holds the types of `answers`, and all that they refer to.

    `schemas` are other forms that it refers to, by their names.
    """

    def __init__(
        self, answers: tuple[type[msgspec.Struct], ...], schemas: dict[str, Any], *, title: str, version: str
    ) -> None:
        self._answers = answers
        self._schemas = schemas
        self._document: dict[str, Any] | None = None
        self._encoded: bytes | None = None
        # The service may stand below a path of its own, which it does not know: all addresses are relative.
        options = {"title": title, "version": version, "servers": [{"url": "."}], "redirect_slashes": False}
        self.app: FastAPI = FastAPIOffline(docs_url=None, redoc_url=None, static_url=f"/{_STATIC}", **options)
        self.app.add_api_route("/docs", self._page, include_in_schema=False, response_class=HTMLResponse)
        self._describe = self.app.openapi
        self.app.openapi = self.openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it
        for route in self.app.router.routes:
            if isinstance(route, Mount) and isinstance(route.app, StaticFiles):
                route.app = _KeptFiles(directory=route.app.directory)
        self.app.router.routes.insert(0, Route(str(self.app.openapi_url), self._show))

    async def _page(self) -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=f"{self.app.title} - Swagger UI",
            swagger_js_url=f"{_STATIC}/swagger-ui-bundle.js",
            swagger_css_url=f"{_STATIC}/swagger-ui.css",
            swagger_favicon_url=f"{_STATIC}/favicon.png",
        )

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if self._document is None:
            document = self._describe()
            _, schemas = msgspec.json.schema_components([*self._answers, ErrorReply], ref_template=REF)
            document.setdefault("components", {}).setdefault("schemas", {}).update(schemas | self._schemas)
            _leave_out_validation(document)
            self._document = document
        return self._document

    async def _show(self, _: Request) -> Response:
        # One text for all who take it slowly: that of a large model has a megabyte.
        if self._encoded is None:
            self._encoded = msgspec.json.encode(self.openapi())
        return Response(self._encoded, media_type="application/json")


class _KeptFiles(StaticFiles):
    """Files that are read once: none is open for each client that takes its answer slowly."""

    def __init__(self, *, directory: str | os.PathLike[str] | None) -> None:
        super().__init__(directory=directory)
        self._contents: dict[str, bytes] = {}

    def file_response(
        self, full_path: str | os.PathLike[str], stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Return a whole file, or that it has not changed."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        if not isinstance(response, FileResponse):
            return response
        name = os.fspath(full_path)
        if name not in self._contents:
            self._contents[name] = Path(name).read_bytes()
        kept = {key: value for key, value in response.headers.items() if key in ("etag", "last-modified")}
        return Response(self._contents[name], status_code, kept, media_type=response.media_type)


def _leave_out_validation(document: dict[str, Any]) -> None:
    """Leave out the refusal that FastAPI describes for every parameter: those of this service take any text."""
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    unknown = {"schema": {"$ref": REF.format(name="HTTPValidationError")}}
    for path in document["paths"].values():
        for operation in path.values():
            answers = operation["responses"]
            if unknown in answers.get("422", {}).get("content", {}).values():
                del answers["422"]


def answer(kind: type[msgspec.Struct], meaning: str, *, with_request_id: bool = False) -> dict[str, Any]:
    """Describe an answer of the form `kind`, which the application's `DescribedApi` has to know."""
    schema = {"$ref": REF.format(name=kind.__name__)}
    described: dict[str, Any] = {"description": meaning, "content": {"application/json": {"schema": schema}}}
    if with_request_id:
        described["headers"] = {REQUEST_ID: _REQUEST_ID_HEADER}
    return described


def refusals() -> dict[int | str, dict[str, Any]]:
    """Describe every refusal of a prediction."""
    return {int(status): answer(ErrorReply, text, with_request_id=True) for status, text in _MEANING.items()}
