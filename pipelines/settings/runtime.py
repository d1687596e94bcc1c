"""What a process in one of Slipway's containers is told by those who started it; no other process has a runtime."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pipelines.errors import UsageError

if TYPE_CHECKING:
    from pipelines.settings.terraform_outputs import StackOutputs

# Login -> its user, its database, and the variable that holds its password.
_DATABASES = {
    "slipway": ("slipway", "slipway", "PGPASSWORD"),
    "workflows": ("workflows", "workflows", "WORKFLOWS_DATABASE_PASSWORD"),
}


@dataclass(frozen=True)
class Login:
    """A user of a service, and a password that is never shown."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Runtime:
    """What a process in one of Slipway's containers is told by those who started it.

    `stack` is what Terraform says of the installation (the output of that name); `objects` and `mlflow` are the
    logins of this process. `databases` has a URL for each database login that it was given: `slipway`, which uses the
    tables and can't change them, and in the executor `workflows`.
    """

    stack: "StackOutputs"
    mlflow_url: str
    mlflow: Login
    objects: Login
    databases: Mapping[str, str] = field(repr=False)
    tokens_file: Path

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Runtime | None":
        """Read them where SLIPWAY_STACK names the file; None on a machine that is no container of Slipway's."""
        file = environ.get("SLIPWAY_STACK")
        if not file:
            return None
        from pipelines.settings.terraform_outputs import read_stack

        try:
            return cls(
                stack=read_stack(json.loads(Path(file).read_text()), source=f"SLIPWAY_STACK={file}"),
                mlflow_url=environ["MLFLOW_TRACKING_URI"],
                mlflow=Login(environ["MLFLOW_TRACKING_USERNAME"], environ["MLFLOW_TRACKING_PASSWORD"]),
                objects=Login(environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"]),
                databases={
                    name: _database_url(environ, user, environ[variable], database)
                    for name, (user, database, variable) in _DATABASES.items()
                    if variable in environ
                },
                tokens_file=Path(environ.get("SLIPWAY_TOKENS_FILE") or "/run/secrets/tokens"),
            )
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(
                f"SLIPWAY_STACK={file!r}, but what belongs to it is missing: {error!r}",
                next='start this container with "slipway up", which gives it all',
            ) from error


def owner_url(environ: Mapping[str, str]) -> str:
    """Return the database URL of the process that makes the tables; raise UsageError anywhere else."""
    try:
        return _database_url(environ, environ["PGUSER"], environ["PGPASSWORD"], environ["PGDATABASE"])
    except KeyError as error:
        raise UsageError(
            f"this process has no login of the tables' owner: {error} is not set",
            next='leave it to "slipway up", which starts the container that makes them',
        ) from None


def _database_url(environ: Mapping[str, str], user: str, password: str, database: str) -> str:
    return f"postgresql://{user}:{quote(password, safe='')}@{environ['PGHOST']}:{environ['PGPORT']}/{database}"
