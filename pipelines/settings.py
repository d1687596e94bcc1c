"""The settings of one Slipway home, read once from the environment at an entrypoint and passed on."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.domain.release import Environment
from pipelines.errors import TargetUnavailable, UsageError

ROOT = Path(__file__).resolve().parent.parent

_PORTS = {"STAGING": 8000, "PRODUCTION": 8001, "API": 8080, "MLFLOW": 5000}


@dataclass(frozen=True)
class Settings:
    """Where everything of one installation is.

    `root` holds the code, `home` all state, `project` the working tree whose model.yaml and policy
    files are used. All ports are on 127.0.0.1.
    """

    root: Path
    project: Path
    home: Path
    staging_port: int
    production_port: int
    api_port: int
    mlflow_port: int

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read SLIPWAY_HOME, SLIPWAY_PROJECT, TARGET and SLIPWAY_PORT_*; raise UsageError for nonsense."""
        target = environ.get("TARGET") or "local"
        if target != "local":
            raise TargetUnavailable(
                f"TARGET={target} is not available yet", next="use TARGET=local, which needs no Docker"
            )
        project = Path(environ.get("SLIPWAY_PROJECT") or ROOT).resolve()
        home = Path(environ.get("SLIPWAY_HOME") or project / ".slipway").resolve()
        ports = {name: _port(environ, name, default) for name, default in _PORTS.items()}
        if len(set(ports.values())) < len(ports):
            raise UsageError("two SLIPWAY_PORT_ settings name the same port", next="give each its own")
        return cls(
            root=ROOT,
            project=project,
            home=home,
            staging_port=ports["STAGING"],
            production_port=ports["PRODUCTION"],
            api_port=ports["API"],
            mlflow_port=ports["MLFLOW"],
        )

    def port(self, environment: Environment) -> int:
        """Return the port that an environment's live slot serves."""
        return {
            Environment.STAGING: self.staging_port,
            Environment.PRODUCTION: self.production_port,
        }[environment]

    @property
    def api_url(self) -> str:
        """The API's base URL."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def mlflow_url(self) -> str:
        """MLflow's base URL."""
        return f"http://127.0.0.1:{self.mlflow_port}"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of Slipway's own state."""
        return f"sqlite:///{self.home / 'slipway.db'}"

    @property
    def workflows_url(self) -> str:
        """SQLAlchemy URL of the workflow engine's journal."""
        return f"sqlite:///{self.home / 'workflows.db'}"

    @property
    def tokens_file(self) -> Path:
        """Person -> token, readable by its owner only."""
        return self.home / "tokens.json"

    @property
    def heads_file(self) -> Path:
        """The audit chain's heads, outside the database."""
        return self.home / "audit-heads.jsonl"

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.home / "logs"

    def child_environ(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return `environ` with these settings spelled out, for a process of the same installation.

        What it talks to is on this machine, so no proxy stands in between.
        """
        direct = {name: f"{environ.get(name, '')},127.0.0.1,localhost".lstrip(",") for name in ("NO_PROXY", "no_proxy")}
        return {
            **environ,
            **direct,
            "SLIPWAY_HOME": str(self.home),
            "SLIPWAY_PROJECT": str(self.project),
            "SLIPWAY_PORT_STAGING": str(self.staging_port),
            "SLIPWAY_PORT_PRODUCTION": str(self.production_port),
            "SLIPWAY_PORT_API": str(self.api_port),
            "SLIPWAY_PORT_MLFLOW": str(self.mlflow_port),
        }


def model_name(project: Path) -> str:
    """Return the model that model.yaml names, without reading more of it."""
    for line in (project / "model.yaml").read_text().splitlines():
        key, _, value = line.partition(":")
        name = value.split("#")[0].strip().strip("\"'")
        if key == "name" and name:
            return name
    raise UsageError(f"{project / 'model.yaml'} names no model", next='begin it with "name: my-model"')


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    given = environ.get(f"SLIPWAY_PORT_{name}") or str(default)
    if not re.fullmatch("[0-9]{1,5}", given) or not 1 <= int(given) <= 65535:
        raise UsageError(f"SLIPWAY_PORT_{name}={given[:20]!r} is not a port", next="give a number from 1 to 65535")
    return int(given)
