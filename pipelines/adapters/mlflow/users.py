"""The users of a guarded MLflow and what each may do; everybody else may do nothing.

`reader` looks and writes nothing, `trainer` logs runs and registers versions, `promoter` also moves and removes
aliases. MLflow wants the same right for registering a version and for moving an alias, and lets everybody make
experiments and models: what keeps a trainer from the one and a reader from the other is the app of the image
(infra/images/mlflow/plugin).
"""

import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from pipelines.errors import RegistryUnavailable, UsageError

ADMIN = "admin"
TIMEOUT_S = 30.0
_GRANTS = {
    "promoter": {"experiment": "EDIT", "registered_model": "MANAGE"},
    "reader": {"experiment": "READ", "registered_model": "READ"},
    "trainer": {"experiment": "EDIT", "registered_model": "EDIT"},
}
_THERE_ALREADY = "RESOURCE_ALREADY_EXISTS"


class MlflowUsers:
    """The users of the MLflow at `url`, as its admin sees them.

    The admin's password is `password`, or still one of `former`; `trust` decides which certificates are good.
    """

    def __init__(
        self, url: str, password: str, former: Sequence[str] = (), *, trust: ssl.SSLContext | bool = True
    ) -> None:
        self._url = url
        self._password = password
        self._former = former
        self._trust = trust

    def ensure(self, passwords: Mapping[str, str]) -> None:
        """Give the admin and each of `passwords`, by user, the present password, and the users their rights.

        Raises RegistryUnavailable when MLflow does not answer, UsageError when it knows neither password.
        """
        self._ensure_admin()
        for user, password in passwords.items():
            body = {"username": user, "password": password}
            if self._ask("POST", "2.0/mlflow/users/create", body) == _THERE_ALREADY:
                self._ask("PATCH", "2.0/mlflow/users/update-password", body)
            for kind, permission in _GRANTS[user].items():
                grant = {"username": user, "resource_type": kind, "resource_id": "*", "permission": permission}
                self._ask("POST", "3.0/mlflow/users/permissions/grant", grant)

    def ensure_model(self, name: str) -> None:
        """Make a registered model of the admin's, so that no trainer owns it by being the first."""
        self._ask("POST", "2.0/mlflow/registered-models/create", {"name": name})

    def _ensure_admin(self) -> None:
        if self._logs_in(self._password):
            return
        accepted = next((former for former in self._former if self._logs_in(former)), None)
        if accepted is None:
            raise UsageError(
                "MLflow knows its admin by another password than this home",
                next="use the home that this installation was made from",
            )
        change = {"username": ADMIN, "password": self._password, "current_password": accepted}
        self._ask("PATCH", "2.0/mlflow/users/update-password", change, password=accepted)

    def _logs_in(self, password: str) -> bool:
        answer = self._send("GET", "2.0/mlflow/users/current", None, password)
        if answer.status_code not in (200, 401):
            raise self._refusal(answer)
        return answer.status_code == 200

    def _ask(self, method: str, path: str, body: dict[str, str], *, password: str | None = None) -> str:
        """Send a request; return the error code when what it makes is there already, else an empty text."""
        answer = self._send(method, path, body, password or self._password)
        if answer.is_success:
            return ""
        if _error_of(answer).get("error_code") == _THERE_ALREADY:
            return _THERE_ALREADY
        raise self._refusal(answer)

    def _send(self, method: str, path: str, body: dict[str, str] | None, password: str) -> httpx.Response:
        try:
            return httpx.request(
                method,
                f"{self._url}/api/{path}",
                json=body,
                auth=(ADMIN, password),
                timeout=TIMEOUT_S,
                trust_env=False,
                verify=self._trust,
            )
        except httpx.HTTPError as error:
            raise RegistryUnavailable(
                f"MLflow at {self._url} does not answer: {type(error).__name__}", next='see "slipway logs"'
            ) from None

    def _refusal(self, answer: httpx.Response) -> RegistryUnavailable:
        told = _error_of(answer).get("message", "")
        return RegistryUnavailable(
            f"MLflow at {self._url} refuses {answer.request.url.path}: {answer.status_code} {told[:200]}",
            next='see "slipway logs"',
        )


def _error_of(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
