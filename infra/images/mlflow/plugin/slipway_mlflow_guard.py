"""MLflow behind passwords, in which one user alone, the promoter, decides what versions are and where they stand.

MLflow has one right for registering a version and for moving an alias. Here everybody with that right may register
versions and describe them; every other way to write to the model registry is the promoter's. It is a list of what is
free, so that what a later MLflow adds is refused until somebody has thought about it.
"""

import os
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from flask import Response, g, request
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.protos.model_registry_pb2 import (
    CreateModelVersion,
    CreateRegisteredModel,
    DeleteModelVersionTag,
    GetLatestVersions,
    ModelRegistryService,
    SetModelVersionTag,
    UpdateModelVersion,
)
from mlflow.server import app, auth
from mlflow.server.handlers import _get_request_message, catch_mlflow_exception, get_service_endpoints
from slipway_mlflow_door import Door

_FREE = frozenset(
    {
        CreateModelVersion,
        CreateRegisteredModel,
        DeleteModelVersionTag,
        GetLatestVersions,
        SetModelVersionTag,
        UpdateModelVersion,
    }
)


def create_app() -> FastAPI:
    """Return MLflow's own app with passwords, guarded: named `slipway` for `mlflow server --app-name`."""
    guarded: FastAPI = auth.create_app(app)
    promoter = os.environ.get("SLIPWAY_PROMOTER") or "promoter"
    # The same list that MLflow makes its routes of, below /api/ and /ajax-api/; by route, not by path as it was sent.
    kinds = {
        (path, method): kind
        for path, kind, methods in get_service_endpoints(ModelRegistryService, lambda kind: kind)
        for method in methods
        if method != "GET"
    }

    @catch_mlflow_exception
    def refuse() -> Response | None:
        kind = kinds.get((request.url_rule.rule, request.method)) if request.url_rule else None
        if kind is not None:
            _check(kind, promoter)
        return None

    # After the function that logs the user in, which `auth.create_app` has put first.
    app.before_request(refuse)
    guarded.add_middleware(Door)
    return guarded


def _check(kind: Any, promoter: str) -> None:
    """Raise MlflowException, which becomes a 403, for a request that is not this user's to make."""
    user = g.get("mlflow_authenticated_user")
    if user == promoter or (kind in _FREE and not any(map(_is_reserved, _tags(_get_request_message(kind()))))):
        return
    raise MlflowException(
        f"{user} may register and describe versions; aliases, the tags lifecycle and slipway.*, stages, models as such "
        f'and removing are for {promoter} alone. To have version n served: "make promote VERSION=n"',
        error_code=PERMISSION_DENIED,
    )


def _tags(message: Any) -> Iterator[str]:
    """Yield the keys of the tags that a request writes or deletes."""
    if isinstance(message, CreateModelVersion):
        yield from (tag.key for tag in message.tags)
    elif isinstance(message, SetModelVersionTag | DeleteModelVersionTag):
        yield message.key


def _is_reserved(key: str) -> bool:
    return key == "lifecycle" or key.startswith("slipway.")
