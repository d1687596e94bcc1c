"""The image registry of an installation, its own or another's: where it is, and who may push and pull there."""

from pathlib import Path

from pipelines.adapters.containers.engine_parts import EngineParts
from pipelines.adapters.containers.external_services import ExternalServices
from pipelines.adapters.containers.secret_store import SecretStore
from pipelines.adapters.containers.tls_secrets import TlsSecrets
from pipelines.adapters.images.external_registry import LOGIN
from pipelines.adapters.swarm.engine import DockerEngine


class ImagePlace:
    """What stands before the name of every image that is pushed and pulled is `address`.

    `authority` is by what its certificate is known, where it is published with one that not everybody knows.
    """

    def __init__(
        self,
        address: str,
        tls: TlsSecrets,
        outside: ExternalServices,
        secrets: SecretStore,
        *,
        parts: EngineParts,
        authority: Path | None,
    ) -> None:
        self.address = address
        self._tls = tls
        self._outside = outside
        self._secrets = secrets
        self._parts = parts
        self._authority = authority

    def let_pull(self, engine: DockerEngine) -> None:
        """Log an engine in where the registry wants it, and give that login to the services.

        Terraform takes theirs away: its provider writes a service with an empty login whenever it changes anything.
        """
        if self.log_in(engine):
            self._parts.renew_logins(self.address)

    def log_in(self, engine: DockerEngine) -> bool:
        """Let an engine log in to the registry; tell whether that wants it."""
        login, external = self._tls.login(), self._outside.registry
        if external:
            external.log_in(self._secrets.value(LOGIN), engine)
        elif login:
            engine.log_in(self.address, *login, authority=self._authority)
        return bool(login or external)

    def share(self, app: str, engine: DockerEngine) -> None:
        """Push the app's image, and let slots without a release run what every node can pull."""
        self._parts.share_image(app, engine.push(app, f"{self.address}/slipway/app"))
