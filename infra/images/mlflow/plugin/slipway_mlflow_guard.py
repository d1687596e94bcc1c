"""MLflow behind passwords, in which one user alone, the promoter, decides what versions are and where they stand.

Whoever may log runs may also register versions and describe them; what a registered version is made of stays as it
was, and every other way to write is as `slipway_mlflow_routes` says: what is not listed there is refused.
"""

import os
import posixpath
import re
from collections.abc import Iterator
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from flask import Response, g, request
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.protos.model_registry_pb2 import CreateModelVersion, DeleteModelVersionTag, SetModelVersionTag
from mlflow.protos.service_pb2 import CreateExperiment
from mlflow.server import app, auth
from mlflow.server.handlers import (
    _get_artifact_repo_mlflow_artifacts,
    _get_model_registry_store,
    _get_request_message,
    catch_mlflow_exception,
)
from mlflow.utils.uri import validate_path_is_safe
from slipway_mlflow_door import Door
from slipway_mlflow_routes import Role, role_of
from slipway_mlflow_tags import too_much
from starlette.middleware import Middleware
from starlette.responses import Response as NativeResponse
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

_READS = ("GET", "HEAD", "OPTIONS")
# It sends requests to wherever it is told.
_PROXY = "/gateway-proxy"
_ARTIFACT = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts/(.+)", re.DOTALL)
_ARTIFACT_ROUTE = "/api/2.0/mlflow-artifacts/artifacts/<path:artifact_path>"
# Of a run, and of a logged model.
_OWNER = re.compile(r"[0-9a-f]{32}|m-[0-9a-f]{32}")


def create_app() -> FastAPI:
    """Return MLflow's own app with passwords, guarded: named `slipway` for `mlflow server --app-name`."""
    guarded: FastAPI = auth.create_app(app)
    promoter = os.environ.get("SLIPWAY_PROMOTER") or "promoter"

    @catch_mlflow_exception
    def refuse() -> Response | None:
        # By the route that will answer, not by the path as it was sent.
        if request.url_rule and (request.method not in _READS or request.url_rule.rule.endswith(_PROXY)):
            _check(g.get("mlflow_authenticated_user"), promoter, request.method, request.url_rule.rule)
            _check_body(g.get("mlflow_authenticated_user"), promoter, request.url_rule.rule)
        return None

    # After the function that logs the user in, which `auth.create_app` has put first.
    app.before_request(refuse)
    # Innermost, so after the part that logs the user in on routes that pass Flask by.
    guarded.user_middleware.append(Middleware(_NativeGuard, guarded=guarded, promoter=promoter))
    guarded.add_middleware(Door, is_file=_is_file, remembered=_is_remembered, compare=_is_right)
    return guarded


def _is_file(scope: Scope) -> bool:
    """Whether MLflow's own route for a file, the one that keeps no body in memory, will answer."""
    # A path with a line's end is no route's, and so Flask's.
    return scope["method"] == "PUT" and scope["path"].isprintable() and bool(_ARTIFACT.fullmatch(scope["path"]))


def _is_remembered(user: str, password: str) -> bool:
    """Whether MLflow itself would not compare the password, which it forgets as soon as it is changed."""
    with auth._USER_AUTH_CACHE_LOCK:
        return auth._auth_cache_key(user, password) in auth._USER_AUTH_CACHE


def _is_right(user: str, password: str) -> bool:
    return auth._authenticate_cached(user, password) is not None


class _NativeGuard:
    """Guards the routes that MLflow serves without Flask, of which one alone may be written to: that of a file."""

    def __init__(self, inner: ASGIApp, guarded: FastAPI, promoter: str) -> None:
        self._inner = inner
        self._routes = [route for route in guarded.routes if not isinstance(route, Mount)]
        self._promoter = promoter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writes = scope["type"] == "http" and scope["method"] not in _READS
        if writes and any(route.matches(scope)[0] is Match.FULL for route in self._routes):
            try:
                await to_thread.run_sync(self._check, scope)
            except MlflowException as error:
                refusal = NativeResponse(error.serialize_as_json(), 403, media_type="application/json")
                await refusal(scope, receive, send)
                return
        await self._inner(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        user = scope.get("state", {}).get("username")
        found = _ARTIFACT.fullmatch(scope["path"])
        _check(user, self._promoter, scope["method"], _ARTIFACT_ROUTE if found else scope["path"])
        if found and user != self._promoter:
            # As MLflow itself reads it: another way to write the same path would not be recognized below.
            if found[1] != posixpath.normpath(validate_path_is_safe(found[1])):
                raise _refusal(user, "the path of a file is written in the plain way")
            if _is_of_a_version(found[1]):
                raise _refusal(user, "files of registered versions are not overwritten")


def _check(user: str | None, promoter: str, method: str, route: str) -> None:
    """Raise MlflowException, which becomes a 403, where it is not this user's to write."""
    role = role_of(method, route)
    users = {Role.PROMOTER: promoter, Role.ADMIN: "admin"}
    if user is None or role in (None, Role.NOBODY) or users.get(role, user) != user:
        whose = f"{users[role]} alone" if role in users else "nobody here"
        raise _refusal(user, f"{method} {route} is for {whose}")


def _check_body(user: str | None, promoter: str, route: str) -> None:
    """Raise MlflowException for what is the promoter's in a request that members may send."""
    name = route.rpartition("/mlflow")[2]
    if name == "/experiments/create" and _get_request_message(CreateExperiment()).artifact_location:
        raise _refusal(user, "experiments have no artifact location of their own")
    if user == promoter:
        return
    kinds = {
        "/model-versions/create": CreateModelVersion,
        "/model-versions/set-tag": SetModelVersionTag,
        "/model-versions/delete-tag": DeleteModelVersionTag,
    }
    if name in kinds and any(map(_is_reserved, _tags(_get_request_message(kinds[name]())))):
        raise _refusal(user, f"the tags lifecycle and slipway.* are for {promoter} alone")
    if why := too_much(name, request.view_args or {}):
        raise _refusal(user, why)


def _refusal(user: str | None, why: str) -> MlflowException:
    return MlflowException(
        f"{user} may log runs, and register and describe versions; {why}. Aliases, stages and removing are for the"
        ' promoter alone. To have version n served: "make promote VERSION=n"',
        error_code=PERMISSION_DENIED,
    )


def _is_of_a_version(path: str) -> bool:
    """Whether a file is there already, below a run or a logged model that a version was registered from."""
    owners = _OWNER.findall(path)
    return any(map(_is_registered, owners)) and _exists(path)


def _is_registered(owner: str) -> bool:
    store = _get_model_registry_store()
    wanted = [f"source_path LIKE '%{owner}%'"] + ([f"run_id = '{owner}'"] if not owner.startswith("m-") else [])
    return any(store.search_model_versions(each, max_results=1) for each in wanted)


def _exists(path: str) -> bool:
    folder = path.rpartition("/")[0]
    return any(each.path == path for each in _get_artifact_repo_mlflow_artifacts().list_artifacts(folder or None))


def _tags(message: Any) -> Iterator[str]:
    """Yield the keys of the tags that a request writes or deletes."""
    if isinstance(message, CreateModelVersion):
        yield from (tag.key for tag in message.tags)
    else:
        yield message.key


def _is_reserved(key: str) -> bool:
    return key == "lifecycle" or key.startswith("slipway.")
