"""What lives inside of the services of an installation, made and changed through the edge, as their users would."""

import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

from pipelines.adapters.containers.secret_store import SecretStore
from pipelines.adapters.mlflow.users import MlflowUsers
from pipelines.adapters.storage.minio_admin import MinioUsers
from pipelines.adapters.storage.object_store import Buckets, S3Access, make_buckets, policies
from pipelines.domain.release import Environment
from pipelines.errors import Undecided
from pipelines.settings.settings import MODEL_PATH

ANSWER_S = 120.0
TIMEOUT_S = 5.0
_HEALTH = {
    "api": "/health",
    "mlflow": "/health",
    "production": "/health",
    "s3": "/minio/health/live",
    "staging": "/health",
}


class Provisioning:
    """The services behind `urls`, by the names of their ports; `secrets` has the passwords that hold from now on.

    Their certificates are those of `authority`, where that is given. What others run is not among them. Further
    `models` answer below the addresses of the environments.
    """

    def __init__(
        self,
        urls: Mapping[str, str],
        secrets: SecretStore,
        authority: Path | None = None,
        *,
        models: Sequence[str] = (),
    ) -> None:
        self._urls = urls
        self._models = models
        self._secrets = secrets
        self._authority = authority
        self._trust = ssl.create_default_context(cafile=authority) if authority else True

    def await_answers(self, explain: Callable[[], str]) -> None:
        """Wait until everything answers well; raise Undecided with what `explain` tells when it does not."""
        deadline = time.monotonic() + ANSWER_S
        while silent := self.silent():
            if time.monotonic() > deadline:
                told = ", ".join(f"{name} {last}" for name, last in silent.items())
                raise Undecided(
                    f"not all answers after {ANSWER_S:g} s: {told}\n{explain()}".strip(),
                    next='see "slipway logs", then "make up" again',
                )
            time.sleep(0.3)

    def silent(self) -> dict[str, str]:
        """Return what does not answer well, with the last answer."""
        asked = {name: f"{self._urls[name]}{path}" for name, path in _HEALTH.items() if name in self._urls}
        asked |= {
            f"{model} in {name}": f"{self._urls[name]}/{MODEL_PATH}/{model}/health"
            for model in self._models
            for name in Environment
            if name in self._urls
        }
        answers = {name: self._answer(url) for name, url in asked.items()}
        return {name: answer for name, answer in answers.items() if answer != "200"}

    def make_buckets(self, buckets: Buckets, *, retention_days: int) -> None:
        """Make the buckets, and for each its user with the present password and no other right."""
        secret = self._secrets.value
        root = S3Access(self._urls["s3"], secret("minio-root-user"), secret("minio-root-password"), self._authority)
        make_buckets(root, buckets, retention_days=retention_days)
        users = MinioUsers(root)
        for client, policy in policies(buckets).items():
            users.ensure(secret(f"{client}-objects-user"), secret(f"{client}-objects-password"), policy)

    def make_users(self, model: str) -> None:
        """Make the users of the model registry with the present passwords, and the registered models."""
        secret = self._secrets.value
        users = MlflowUsers(
            self._urls["mlflow"], secret("mlflow-admin"), self._secrets.former("mlflow-admin"), trust=self._trust
        )
        users.ensure({name: secret(f"mlflow-{name}") for name in ("promoter", "reader", "trainer")})
        for name in (model, *self._models):
            users.ensure_model(name)

    def _answer(self, url: str) -> str:
        try:
            return str(httpx.get(url, timeout=TIMEOUT_S, trust_env=False, verify=self._trust).status_code)
        except httpx.HTTPError as error:
            return type(error).__name__
