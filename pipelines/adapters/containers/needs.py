"""What Terraform builds on, checked before anything is changed and then made: images, secrets, and its variables."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.adapters.containers.engine_secrets import DockerSecrets
from pipelines.adapters.containers.external_services import ExternalServices
from pipelines.adapters.containers.model_places import left_models, places_of
from pipelines.adapters.containers.node_traffic import VARIABLE, NodeTraffic, choose_encryption
from pipelines.adapters.containers.secret_store import NAMES_KEY, SecretStore
from pipelines.adapters.containers.tls_secrets import TlsSecrets
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.adapters.swarm.engine_check import check_disk, check_engine, check_ports
from pipelines.errors import UsageError
from pipelines.settings.binding import ON_LOOPBACK, Binding

ProgressReporter = Callable[[str], None]


@dataclass(frozen=True)
class InstallationOptions:
    """What the operator chooses of an installation; `more` are further variables of infra/, by their names there.

    `model` is the default one. `models` finds the others, or raises UsageError for projects that contradict each other,
    which hinders nobody who stops or removes what is there; `removed` finds those that somebody removed. `model_sizes`
    are what the operator chooses for some.
    `authority` is the file of who signed the certificate, if not everybody knows them.
    """

    model: str
    model_file: Path
    ports: Mapping[str, int]
    models: Callable[[], Sequence[str]] = tuple
    removed: Callable[[], Sequence[str]] = tuple
    model_sizes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    prefix: str = "slipway"
    installation_id: str | None = None
    engine_url: str = "unix:///var/run/docker.sock"
    binding: Binding = ON_LOOPBACK
    authority: Path | None = None
    retention_days: int = 365
    outside: ExternalServices = field(default_factory=ExternalServices)
    encrypted: bool | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def published(self) -> dict[str, int]:
        """The ports that are published here, by name."""
        return {name: port for name, port in self.ports.items() if name not in self.outside.ports}


class Needs:
    """What an installation with these options needs; `build` makes the images, name -> id."""

    def __init__(
        self,
        options: InstallationOptions,
        engine: DockerEngine,
        *,
        traffic: NodeTraffic,
        tls: TlsSecrets,
        secrets: SecretStore,
        placed: DockerSecrets,
        build: Callable[[ProgressReporter], Mapping[str, str]],
    ) -> None:
        self._options = options
        self._engine = engine
        self._traffic = traffic
        self._tls = tls
        self._secrets = secrets
        self._placed = placed
        self._build = build

    def variables(
        self, kept: Mapping[str, Any], report_progress: ProgressReporter, *, once_checked: Callable[[], None]
    ) -> dict[str, Any]:
        """Return Terraform's variables, where `kept` are those of before; call `once_checked` before anything is made.

        Raises UsageError for what is missing on this machine or was given wrong.
        """
        options, outside = self._options, self._options.outside
        places, known = kept.get("models", {}), list(options.models())
        left = left_models(places, known, options.removed())
        models = places_of([*known, *left], places, options.model_sizes)
        for name in left:
            report_progress(f"{name} serves on, but nobody knows its project: slipway model add FOLDER")
        for name in sorted(set(options.model_sizes) - set(models)):
            report_progress(f"{name} has a size of its own, but this installation has no such model beside the default")
        self._tls.check()
        given = outside.given(self._secrets)
        encrypted = choose_encryption(kept, options.encrypted)
        node = check_engine(self._engine, options.engine_url)
        self._refuse_another_node(kept, node.id)
        if node.data:
            check_disk(node.data)
        for line in self._traffic.check(encrypted, is_local=node.data is not None):
            report_progress(line)
        check_ports(self._engine, options.published, address=options.binding.address, prefix=options.prefix)
        outside.check_store(given, retention_days=options.retention_days)
        once_checked()
        images = dict(self._build(report_progress))
        outside.enter_registry(given, images, self._engine)
        placed = self._put_secrets(given, report_progress)
        return {
            "bind_address": options.binding.address,
            "docker_host": options.engine_url,
            "docker_socket": {"gid": node.socket_gid, "path": node.socket_path},
            VARIABLE: encrypted,
            "external_url": options.binding.external_url,
            "images": images,
            "installation_id": options.installation_id,
            "model": options.model,
            "model_file": str(options.model_file.resolve()),
            "models": models,
            "ports": dict(options.ports),
            "prefix": options.prefix,
            "running": True,
            "secrets": placed,
            "state_node": node.id,
            "tls": self._tls.variable(placed),
            **outside.variables(),
            **options.more,
        }

    def _refuse_another_node(self, kept: Mapping[str, Any], node: str) -> None:
        """Raise UsageError where the data is on another node of the swarm: it would begin anew here, without any."""
        former = kept.get("state_node", node)
        if former == node:
            return
        with self._engine.api() as api:
            is_there = any(each["ID"] == former for each in api.nodes())
        # A node that left its swarm is another one when it comes back, with the data that it had.
        if is_there:
            raise UsageError(
                f"the data of this installation is on the node {former}, and DOCKER_HOST leads to {node}",
                next=f"set DOCKER_HOST as before ({kept.get('docker_host')}); a backup and a restore move it",
            )

    def _put_secrets(self, given: Mapping[str, str], report_progress: ProgressReporter) -> dict[str, dict[str, str]]:
        """Make the secrets that are missing, and bring all into the engine; return where they are there."""
        self._secrets.take(given)
        made = self._secrets.make_missing()
        if made:
            report_progress(f"made {len(made)} secrets")
        # The login and the authority of an external image registry take the place of those of an own one.
        authorities = self._options.outside.authorities()
        mounted = {**self._tls.mounted(), **self._secrets.mounted(), **authorities}
        return self._placed.put(mounted, key=self._secrets.value(NAMES_KEY))
