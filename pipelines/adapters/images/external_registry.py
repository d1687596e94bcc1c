"""An image registry that others run: the login to it, and whether what releases need can be pushed there."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from pipelines.adapters.containers.secret_store import read_given
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import TargetUnavailable, Undecided, UsageError

# Under this name and in this form Docker's clients look for a login.
LOGIN = "config.json"
# The app's image, the images of releases, which begin with it, and what load workers on other nodes pull.
_REPOSITORIES = ("slipway/app", "slipway/release", "slipway/loadtest")


@dataclass(frozen=True)
class ExternalRegistry:
    """What stands before an image's name there, `host[:port][/path]`.

    `authority` signed its certificate, where not everybody knows who did.
    """

    address: str
    authority: Path | None = None

    @property
    def host(self) -> str:
        """What a login is for."""
        return self.address.partition("/")[0]

    def read_login(self, path: Path) -> str:
        """Return of a client's config.json the login to this registry alone; raise UsageError where it has none."""
        given = read_given(path, "SLIPWAY_REGISTRY_LOGIN")
        try:
            login = given["auths"][self.host]["auth"]
            user, password = _pair(login)
        except (KeyError, TypeError, ValueError):
            user, password = "", ""
        if not (user and password):
            raise UsageError(
                f"SLIPWAY_REGISTRY_LOGIN={path} holds no login to {self.host}",
                next=f'write {{"auths": {{"{self.host}": {{"auth": "base64 of user:password"}}}}}}, as "docker login" '
                "does where no credential helper keeps it",
            )
        return json.dumps({"auths": {self.host: {"auth": login}}})

    def log_in(self, login: str, engine: DockerEngine) -> None:
        """Let an engine log in with what `read_login` returned."""
        user, password = _pair(json.loads(login)["auths"][self.host]["auth"])
        engine.log_in(self.host, user, password, authority=self.authority)

    def enter(self, login: str, image: str, engine: DockerEngine) -> None:
        """Let the engine log in and push the app's image, as releases will be; raise UsageError with its reason."""
        try:
            self.log_in(login, engine)
            for repository in _REPOSITORIES:
                engine.push(image, f"{self.address}/{repository}")
        except (TargetUnavailable, Undecided) as error:
            raise UsageError(
                f"the image registry {self.address} can't be used: {error.message}",
                next="SLIPWAY_REGISTRY_LOGIN names a login that may pull and push "
                f"{', '.join(_REPOSITORIES)} there; see that it does, then 'make up' again",
            ) from error


def _pair(login: str) -> tuple[str, str]:
    """Return user and password of a login; raise ValueError or TypeError for what is none."""
    user, _, password = base64.b64decode(login, validate=True).decode().partition(":")
    return user, password
