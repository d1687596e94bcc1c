"""MLflow as the model registry; nothing that it hands out is unpickled or trusted, only downloaded."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from pipelines.adapters.mlflow.aliases import aliases_of
from pipelines.adapters.mlflow.answers import Done, OneVersion, Version, Versions
from pipelines.adapters.mlflow.places import Places
from pipelines.adapters.mlflow.rest import TrackingServer, checked_url
from pipelines.adapters.mlflow.store import ArtifactStore, TransferBounds
from pipelines.domain.names import checked_name, checked_version
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import NotServable, RegistryUnavailable, UnknownVersion
from pipelines.packaging.mlmodel import ADVICE, FILE


class MlflowModelRegistry:
    """Fills the role ModelRegistry with an MLflow tracking server, as the user and password of `login`.

    `timeout_s` bounds one request; a call makes few of them and each is repeated once. `bounds` is for one download,
    and `trust` decides which certificates are good.
    """

    def __init__(
        self,
        tracking_uri: str,
        timeout_s: float = 10.0,
        *,
        login: tuple[str, str] | None = None,
        bounds: TransferBounds | None = None,
        trust: ssl.SSLContext | bool = True,
    ) -> None:
        url = checked_url(tracking_uri)
        self._server = TrackingServer(url, login=login, timeout_s=timeout_s, trust=trust)
        self._places = Places(self._server)
        self._store = ArtifactStore(url, login=login, timeout_s=timeout_s, bounds=bounds, trust=trust)

    def version(self, model: str, version: str) -> RegisteredVersion:
        """Return one version, or raise UnknownVersion."""
        name, number = checked_name(model, what="model"), checked_version(version)
        subject = f"version {number} of {name}"
        found = self._server.get("/model-versions/get", OneVersion, subject, name=name, version=number)
        return _registered(found.model_version)

    def newest(self, model: str) -> RegisteredVersion:
        """Return the version registered last, or raise UnknownVersion."""
        name = checked_name(model, what="model")
        query = {"filter": f"name='{name}'", "max_results": "1", "order_by": "version_number DESC"}
        found = self._server.get("/model-versions/search", Versions, f"versions of {name}", **query).model_versions
        if not found:
            raise UnknownVersion(f"{name} has no registered version", next='run "make candidate"')
        return _registered(found[0])

    def fetch_model(self, version: RegisteredVersion, into: Path) -> None:
        """Download the files of the logged model into a directory, unread; raise NotServable when there is none."""
        what = f"version {version.version} of {version.model}"
        with self._transfer(f"the model files of {what}"):
            place = self._places.of_model(version, what)
            held = self._store.names(place)
            if FILE not in held:
                raise NotServable(f"{what} has no {FILE} file", next=ADVICE)
            self._store.fetch(place, held, into)

    def fetch_artifact(self, run_id: str, path: str, into: Path) -> Path | None:
        """Download one file of a run to `into / path`, or return None when the run has none at `path`."""
        parent, _, name = f"/{path}".rpartition("/")
        with self._transfer(f"artifact {path} of run {run_id}"):
            place = self._places.of_run(run_id) + parent
            if name not in self._store.names(place):
                return None
            (found,) = self._store.fetch(place, [name], (into / path).parent)
        return found

    def run_tags(self, run_id: str) -> dict[str, str]:
        """Return the tags of a run."""
        return {tag.key: tag.value for tag in self._places.run(run_id).data.tags}

    def aliases(self, model: str) -> dict[str, str]:
        """Return alias -> version; empty for a model without any, or an unknown model."""
        return aliases_of(self._server, checked_name(model, what="model"))

    def move_alias(self, model: str, alias: str, version: str | None) -> None:
        """Point `alias` at `version`, or remove it with None; read it back before returning."""
        name = checked_name(model, what="model")
        if self.aliases(name).get(alias) == version:
            return
        body = {"name": name, "alias": alias} | ({} if version is None else {"version": checked_version(version)})
        method = "DELETE" if version is None else "POST"
        self._server.send(method, "/registered-models/alias", Done, f"version {version} of {name}", body)
        found = self.aliases(name).get(alias)
        if found != version:
            raise RegistryUnavailable(
                f"alias {alias} of {name} reads {found} after it was moved to {version}",
                next="find out who else moves aliases, then try again",
            )

    def set_tag(self, model: str, version: str, key: str, value: str) -> None:
        """Set one tag of a version."""
        name, number = checked_name(model, what="model"), checked_version(version)
        body = {"name": name, "version": number, "key": key, "value": value}
        self._server.send("POST", "/model-versions/set-tag", Done, f"version {number} of {name}", body)

    def set_description(self, model: str, version: str, text: str) -> None:
        """Set what people read of a version first, as Markdown."""
        name, number = checked_name(model, what="model"), checked_version(version)
        body = {"name": name, "version": number, "description": text}
        self._server.send("PATCH", "/model-versions/update", Done, f"version {number} of {name}", body)

    def attach_evidence(self, version: RegisteredVersion, files: dict[str, bytes]) -> None:
        """Write `files` under `evidence/` on the run and on the logged model.

        Those of a version that is not the first of its run, or of its logged model, have a folder of their own there.
        """
        with self._transfer(f"evidence of version {version.version} of {version.model}"):
            for place in self._places.of_evidence(version):
                for name, content in files.items():
                    self._store.put(f"{place}/{checked_name(name, what='file name')}", content)

    @contextmanager
    def _transfer(self, subject: str) -> Iterator[None]:
        """Turn what fails in the store into what fails in the server."""
        try:
            yield
        except httpx.HTTPError as error:
            raise self._server.failure(subject, error) from error


def _registered(found: Version) -> RegisteredVersion:
    return RegisteredVersion(
        model=found.name,
        version=found.version,
        run_id=found.run_id or "",
        source=found.source,
        tags={tag.key: tag.value for tag in found.tags},
        description=found.description or "",
    )
