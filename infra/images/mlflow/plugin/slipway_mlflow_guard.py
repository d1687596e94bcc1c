"""MLflow behind passwords, in which one user alone, the promoter, decides what versions are and where they stand.

Whoever may log runs may also register versions and describe them; what a registered version is made of stays as it
was (`slipway_mlflow_files`), and every other way to write is as `slipway_mlflow_routes` says: what is not listed there
is refused.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

from anyio import to_thread
from fastapi import FastAPI
from flask import Response, g, request
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.protos.model_registry_pb2 import CreateModelVersion, DeleteModelVersionTag, SetModelVersionTag
from mlflow.protos.service_pb2 import CreateExperiment, CreateLoggedModel
from mlflow.server import app, auth
from mlflow.server.handlers import _get_request_message, catch_mlflow_exception
from slipway_mlflow_door import Door
from slipway_mlflow_files import ROUTE, is_file, owners_of, path_of, why_not_logged, why_not_written
from slipway_mlflow_routes import Role, role_of
from slipway_mlflow_tags import too_much
from slipway_mlflow_underway import Underway
from starlette.middleware import Middleware
from starlette.responses import Response as NativeResponse
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_READS = ("GET", "HEAD", "OPTIONS")
# It sends requests to wherever it is told.
_PROXY = "/gateway-proxy"


def create_app() -> FastAPI:
    """Return MLflow's own app with passwords, guarded: named `slipway` for `mlflow server --app-name`."""
    guarded: FastAPI = auth.create_app(app)
    promoter = os.environ.get("SLIPWAY_PROMOTER") or "promoter"
    underway = Underway()

    @catch_mlflow_exception
    def refuse() -> Response | None:
        # By the route that will answer, not by the path as it was sent.
        if request.url_rule and (request.method not in _READS or request.url_rule.rule.endswith(_PROXY)):
            _check(g.get("mlflow_authenticated_user"), promoter, request.method, request.url_rule.rule)
            _check_body(g.get("mlflow_authenticated_user"), promoter, request.url_rule.rule)
            if request.url_rule.rule.endswith("/model-versions/create"):
                made = _get_request_message(CreateModelVersion())
                g.registering = ExitStack()
                g.registering.enter_context(underway.registering(owners_of(made.source, made.run_id, made.model_id)))
        return None

    def registered(_error: BaseException | None) -> None:
        g.pop("registering", ExitStack()).close()

    # After the function that logs the user in, which `auth.create_app` has put first.
    app.before_request(refuse)
    app.teardown_request(registered)
    # Innermost, so after the part that logs the user in on routes that pass Flask by.
    guarded.user_middleware.append(Middleware(_NativeGuard, guarded=guarded, promoter=promoter, underway=underway))
    guarded.add_middleware(Door, is_file=is_file, remembered=_is_remembered, compare=_is_right)
    return guarded


def _is_remembered(user: str, password: str) -> bool:
    """Whether MLflow itself would not compare the password, which it forgets as soon as it is changed."""
    with auth._USER_AUTH_CACHE_LOCK:
        return auth._auth_cache_key(user, password) in auth._USER_AUTH_CACHE


def _is_right(user: str, password: str) -> bool:
    return auth._authenticate_cached(user, password) is not None


class _NativeGuard:
    """Guards the routes that MLflow serves without Flask, of which one alone may be written to: that of a file."""

    def __init__(self, inner: ASGIApp, guarded: FastAPI, promoter: str, underway: Underway) -> None:
        self._inner = inner
        self._routes = [route for route in guarded.routes if not isinstance(route, Mount)]
        self._promoter = promoter
        self._underway = underway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writes = scope["type"] == "http" and scope["method"] not in _READS
        if writes and any(route.matches(scope)[0] is Match.FULL for route in self._routes):
            try:
                await to_thread.run_sync(self._check, scope)
            except MlflowException as error:
                refusal = NativeResponse(error.serialize_as_json(), 403, media_type="application/json")
                await refusal(scope, receive, send)
                return
            await self._write(scope, receive, send)
            return
        await self._inner(scope, receive, send)

    async def _write(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a file; what is refused only when it has come as a whole, MLflow's own route tells its sender."""
        with ExitStack() as written:

            async def looked_at() -> Message:
                message = await receive()
                if message["type"] == "http.request" and not message.get("more_body"):
                    path = path_of(scope["path"]) or ""
                    written.enter_context(self._underway.writing(path, owners_of(path)))
                    await to_thread.run_sync(self._check, scope)
                return message

            await self._inner(scope, looked_at, send)

    def _check(self, scope: Scope) -> None:
        user, path = scope.get("state", {}).get("username"), path_of(scope["path"])
        _check(user, self._promoter, scope["method"], ROUTE if path else scope["path"])
        if path and user != self._promoter and (why := why_not_written(path)):
            raise _refusal(user, why)


def _check(user: str | None, promoter: str, method: str, route: str) -> None:
    """Raise MlflowException, which becomes a 403, where it is not this user's to write."""
    role = role_of(method, route)
    users = {Role.PROMOTER: promoter, Role.ADMIN: "admin"}
    if user is None or role in (None, Role.NOBODY) or users.get(role, user) != user:
        whose = f"{users[role]} alone" if role in users else "nobody here"
        raise _refusal(user, f"{method} {route} is for {whose}")
    if role is Role.MEMBER and not _logs_runs(user):
        raise MlflowException(
            f"{user} may look, and not write: {method} {route} is for who may edit all experiments, such as trainer",
            error_code=PERMISSION_DENIED,
        )


def _logs_runs(user: str) -> bool:
    """Whether a user may edit all experiments: its own prove nothing, since MLflow lets everybody make some."""
    return auth.store.get_user(user).is_admin or auth._get_experiment_permission("*", user).can_update


def _check_body(user: str | None, promoter: str, route: str) -> None:
    """Raise MlflowException for what is the promoter's in a request that members may send."""
    name = route.rpartition("/mlflow")[2]
    if name == "/experiments/create" and _get_request_message(CreateExperiment()).artifact_location:
        raise _refusal(user, "experiments have no artifact location of their own")
    if user == promoter:
        return
    if name == "/logged-models" and (why := why_not_logged(_get_request_message(CreateLoggedModel()).source_run_id)):
        raise _refusal(user, why)
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


def _tags(message: Any) -> Iterator[str]:
    """Yield the keys of the tags that a request writes or deletes."""
    if isinstance(message, CreateModelVersion):
        yield from (tag.key for tag in message.tags)
    else:
        yield message.key


def _is_reserved(key: str) -> bool:
    return key == "lifecycle" or key.startswith("slipway.")
