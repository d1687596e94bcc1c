"""The settings of one Slipway home, read once from the environment at an entrypoint and passed on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pipelines.domain.release import Endpoint, Environment
from pipelines.errors import TargetUnavailable, UsageError
from pipelines.settings.binding import ON_LOOPBACK, Binding
from pipelines.settings.models import ModelProject, find_model, find_models, model_name, unknown_model
from pipelines.settings.runtime import Runtime

ROOT = Path(__file__).resolve().parents[2]

# Below it the edge of containers has the further models.
MODEL_PATH = "models"
_PORTS = {"STAGING": 8000, "PRODUCTION": 8001, "API": 8080, "MLFLOW": 5000, "S3": 9000, "IMAGES": 5001}
# On one machine nobody listens there.
_NOT_LOCAL = frozenset({"S3", "IMAGES"})

# As infra/variables.tf has it: secrets are made before Terraform looks.
_PREFIX = re.compile("[a-z][a-z0-9-]{0,22}[a-z0-9]")


class TargetName(StrEnum):
    """Where releases run: processes of this machine, or containers of a Docker Swarm.

    A module of the same name in pipelines.wiring joins what a target needs.
    """

    LOCAL = "local"
    DOCKER = "docker"

    @property
    def home(self) -> str:
        """The folder of the project that is the home where none is named."""
        return ".slipway" if self is TargetName.LOCAL else f".slipway-{self}"


@dataclass(frozen=True)
class Settings:
    """Where everything of one installation is.

    `root` holds the code, `home` all state, `project` the working tree whose model.yaml and policy
    files are used. All ports are on the binding's address. `runtime` is there in a container only.
    """

    target: TargetName
    root: Path
    project: Path
    home: Path
    staging_port: int
    production_port: int
    api_port: int
    mlflow_port: int
    s3_port: int
    images_port: int
    prefix: str
    runtime: Runtime | None = None
    binding: Binding = ON_LOOPBACK
    infra_file: Path | None = None
    s3_keys: Path | None = None
    registry_login: Path | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read TARGET, SLIPWAY_HOME, _PREFIX, _PORT_*, files and the binding; raise UsageError for nonsense."""
        target, home = _target(environ), home_of(environ)
        ports = {name: _port(environ, name, default) for name, default in _PORTS.items()}
        used = [port for name, port in ports.items() if target is not TargetName.LOCAL or name not in _NOT_LOCAL]
        if len(set(used)) < len(used):
            raise UsageError("two SLIPWAY_PORT_ settings name the same port", next="give each its own")
        binding = Binding.from_environ(environ)
        if target is TargetName.LOCAL and binding != ON_LOOPBACK:
            raise UsageError(
                "TARGET=local is reached on 127.0.0.1 only",
                next="TARGET=docker, or unset SLIPWAY_BIND, SLIPWAY_EXTERNAL_URL and SLIPWAY_TLS_*",
            )
        return cls(
            target=target,
            root=ROOT,
            project=_project(environ),
            home=home,
            staging_port=ports["STAGING"],
            production_port=ports["PRODUCTION"],
            api_port=ports["API"],
            mlflow_port=ports["MLFLOW"],
            s3_port=ports["S3"],
            images_port=ports["IMAGES"],
            prefix=_prefix(environ),
            runtime=Runtime.from_environ(environ),
            binding=binding,
            infra_file=_file(environ, "SLIPWAY_INFRA"),
            s3_keys=_file(environ, "SLIPWAY_S3_KEYS"),
            registry_login=_file(environ, "SLIPWAY_REGISTRY_LOGIN"),
        )

    @property
    def models(self) -> tuple[ModelProject, ...]:
        """The models of the installation, the default one first; raise UsageError for projects that contradict."""
        from pipelines.settings.installation import kept_models

        return find_models(self.project, kept_models(self.home))

    def model(self, name: str = "") -> ModelProject:
        """Return a model of the installation, the default one if none is named; raise UnknownModel."""
        return find_model(self.models, name) if name else ModelProject(model_name(self.project), self.project)

    def endpoint(self, environment: Environment, model: str = "") -> Endpoint:
        """Return a model of the installation in an environment: the default one, if none is named."""
        return Endpoint(self.model(model).name, environment)

    def port(self, endpoint: Endpoint) -> int:
        """Return the port that an endpoint's live slot serves; raise UnknownModel for a model without one."""
        from pipelines.settings.installation import kept_models

        if endpoint == self.endpoint(endpoint.environment):
            return {
                Environment.STAGING: self.staging_port,
                Environment.PRODUCTION: self.production_port,
            }[endpoint.environment]
        for kept in kept_models(self.home):
            port = kept.port(endpoint.environment)
            if kept.name == endpoint.model and port is not None:
                return port
        raise unknown_model(endpoint.model, [model.name for model in self.models])

    @property
    def own_ports(self) -> set[int]:
        """The ports of the settings, which no further model is given."""
        return {
            *(self.staging_port, self.production_port, self.api_port),
            *(self.mlflow_port, self.s3_port, self.images_port),
        }

    def address(self, endpoint: Endpoint) -> str:
        """Return the base URL of an endpoint: at its own port, or below the path of its model on the environment's.

        Raises UnknownModel.
        """
        if endpoint == self.endpoint(endpoint.environment) or self.target is TargetName.LOCAL:
            return self.url(self.port(endpoint))
        model = self.model(endpoint.model).name
        return f"{self.url(self.port(self.endpoint(endpoint.environment)))}/{MODEL_PATH}/{model}"

    @property
    def api_host(self) -> str:
        """The address that the API listens on: in a container, where nothing is published, every one."""
        return "0.0.0.0" if self.runtime else "127.0.0.1"

    @property
    def api_url(self) -> str:
        """The API's base URL."""
        return self.url(self.api_port)

    @property
    def mlflow_url(self) -> str:
        """MLflow's base URL."""
        return self.runtime.mlflow_url if self.runtime else self.url(self.mlflow_port)

    def url(self, port: int) -> str:
        """Return the base URL of what this machine and others reach at a port."""
        return f"{self.binding.base_url}:{port}"

    @property
    def own_authority_file(self) -> Path:
        """Where the certificate is written of an authority that was made here."""
        return self.home / "ca.crt"

    @property
    def authority_file(self) -> Path | None:
        """The authority that signed what is seen at the external URL, None where everybody knows it."""
        return self.own_authority_file if self.binding.generate else self.binding.authority

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of Slipway's own state."""
        return self.runtime.databases["slipway"] if self.runtime else f"sqlite:///{self.home / 'slipway.db'}"

    @property
    def workflows_url(self) -> str:
        """SQLAlchemy URL of the workflow engine's journal."""
        own = f"sqlite:///{self.home / 'workflows.db'}"
        return self.runtime.databases["workflows"] if self.runtime else own

    @property
    def tokens_file(self) -> Path:
        """Person -> token, readable by its owner only."""
        return self.runtime.tokens_file if self.runtime else self.home / "tokens.json"

    @property
    def checkpoints_file(self) -> Path:
        """The audit chain's checkpoints, outside the database."""
        return self.home / "audit-heads.jsonl"

    @property
    def sign_of_life(self) -> Path:
        """What the executor touches while it works: how old that is, the health check of its container looks at."""
        return Path("/tmp/executor-lives") if self.runtime else self.home / "executor-lives"

    @property
    def demo_tree(self) -> Path:
        """The copy of the working tree that the demonstration trains in."""
        return self.home / "demo" / "tree"

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.home / "logs"

    def child_environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return `environ` with these settings spelled out, for a process of the same installation.

        What it talks to is on this machine, so no proxy stands in between; and it trusts what is shown there.
        """
        here = ",".join(dict.fromkeys(("127.0.0.1", "localhost", self.binding.name)))
        direct = {name: f"{environ.get(name, '')},{here}".lstrip(",") for name in ("NO_PROXY", "no_proxy")}
        trusted = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE") if self.authority_file else ()
        return {
            **environ,
            **direct,
            **{name: str(self.authority_file) for name in trusted},
            **self.installation_environ(),
            "SLIPWAY_INFRA": str(self.infra_file or ""),
            "SLIPWAY_S3_KEYS": str(self.s3_keys or ""),
            "SLIPWAY_REGISTRY_LOGIN": str(self.registry_login or ""),
            "SLIPWAY_HOME": str(self.home),
            "SLIPWAY_PROJECT": str(self.project),
        }

    def installation_environ(self) -> dict[str, str]:
        """Return the variables that name the installation: its target, its prefix, its ports and its binding."""
        return {
            **self.binding.as_environ(),
            "SLIPWAY_PREFIX": self.prefix,
            "SLIPWAY_PORT_STAGING": str(self.staging_port),
            "SLIPWAY_PORT_PRODUCTION": str(self.production_port),
            "SLIPWAY_PORT_API": str(self.api_port),
            "SLIPWAY_PORT_MLFLOW": str(self.mlflow_port),
            "SLIPWAY_PORT_S3": str(self.s3_port),
            "SLIPWAY_PORT_IMAGES": str(self.images_port),
            "TARGET": str(self.target),
        }


def home_of(environ: Mapping[str, str]) -> Path:
    """Return the home that an environment names, or the usual one of its project and target."""
    return Path(environ.get("SLIPWAY_HOME") or _project(environ) / _target(environ).home).resolve()


def _project(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("SLIPWAY_PROJECT") or ROOT).resolve()


def _target(environ: Mapping[str, str]) -> TargetName:
    named = environ.get("TARGET") or TargetName.LOCAL
    if named not in list(TargetName):
        known = " or ".join(f"TARGET={each}" for each in TargetName)
        raise TargetUnavailable(f"TARGET={named} is not a target", next=f"use {known}")
    return TargetName(named)


def _file(environ: Mapping[str, str], name: str) -> Path | None:
    given = environ.get(name)
    return Path(given).resolve() if given else None


def _prefix(environ: Mapping[str, str]) -> str:
    given = environ.get("SLIPWAY_PREFIX") or "slipway"
    if not _PREFIX.fullmatch(given):
        raise UsageError(
            f"SLIPWAY_PREFIX={given[:40]!r} can't begin names",
            next="give 2 to 24 lower-case letters, digits and hyphens, a letter first and no hyphen last",
        )
    return given


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    given = environ.get(f"SLIPWAY_PORT_{name}") or str(default)
    if not re.fullmatch("[0-9]{1,5}", given) or not 1 <= int(given) <= 65535:
        raise UsageError(f"SLIPWAY_PORT_{name}={given[:20]!r} is not a port", next="give a number from 1 to 65535")
    return int(given)
