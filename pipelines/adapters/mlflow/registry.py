"""MLflow as the model registry; nothing that it hands out is unpickled or trusted, only downloaded."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx

from pipelines.adapters.mlflow.answers import (
    Done,
    LoggedModels,
    OneLoggedModel,
    OneModel,
    OneRun,
    OneVersion,
    Run,
    Version,
    Versions,
)
from pipelines.adapters.mlflow.rest import TrackingServer, checked_url
from pipelines.adapters.mlflow.store import ArtifactStore, TransferBounds, own_place
from pipelines.domain.names import checked_name, checked_version
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import NotServable, RegistryUnavailable, UnknownVersion
from pipelines.packaging.mlmodel import ADVICE, FILE

_LOGGED = re.compile(r"models:/(m-[0-9a-f]+)")
_OF_A_RUN = re.compile(r"runs:/([0-9a-f]+)/(.+)")


class MlflowModelRegistry:
    """Fills the role ModelRegistry with an MLflow tracking server, as the user and password of `login`.

    `timeout_s` bounds one request; a call makes few of them and each is repeated once. `bounds` is for one download.
    """

    def __init__(
        self,
        tracking_uri: str,
        timeout_s: float = 10.0,
        *,
        login: tuple[str, str] | None = None,
        bounds: TransferBounds | None = None,
    ) -> None:
        url = checked_url(tracking_uri)
        self._server = TrackingServer(url, login=login, timeout_s=timeout_s)
        self._store = ArtifactStore(url, login=login, timeout_s=timeout_s, bounds=bounds)

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
            place = self._place(version, what)
            held = self._store.names(place)
            if FILE not in held:
                raise NotServable(f"{what} has no {FILE} file", next=ADVICE)
            self._store.fetch(place, held, into)

    def fetch_artifact(self, run_id: str, path: str, into: Path) -> Path | None:
        """Download one file of a run to `into / path`, or return None when the run has none at `path`."""
        parent, _, name = f"/{path}".rpartition("/")
        with self._transfer(f"artifact {path} of run {run_id}"):
            place = self._run_place(run_id) + parent
            if name not in self._store.names(place):
                return None
            (found,) = self._store.fetch(place, [name], (into / path).parent)
        return found

    def run_tags(self, run_id: str) -> dict[str, str]:
        """Return the tags of a run."""
        return {tag.key: tag.value for tag in self._run(run_id).data.tags}

    def aliases(self, model: str) -> dict[str, str]:
        """Return alias -> version; empty for a model without any, or an unknown model."""
        name = checked_name(model, what="model")
        try:
            found = self._server.get("/registered-models/get", OneModel, f"model {name}", name=name)
        except UnknownVersion:
            return {}
        return {each.alias: each.version for each in found.registered_model.aliases}

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

    def attach_evidence(self, version: RegisteredVersion, files: dict[str, bytes]) -> None:
        """Write `files` under `evidence/` on the run and on the logged model."""
        subject = f"evidence of version {version.version} of {version.model}"
        logged = _LOGGED.fullmatch(version.source)
        with self._transfer(subject):
            places = [self._run_place(version.run_id)] if version.run_id else []
            places += [self._model_place(logged[1])] if logged else []
            for place in places:
                for name, content in files.items():
                    self._store.put(f"{place}/evidence/{checked_name(name, what='file name')}", content)

    def _place(self, version: RegisteredVersion, what: str) -> str:
        """Return where the model's files lie in the registry's own store, asked of this server.

        MLflow's own resolution of `models:/` asks the process-wide tracking address instead.
        """
        if logged := _LOGGED.fullmatch(version.source):
            return self._model_place(logged[1])
        if of_a_run := _OF_A_RUN.fullmatch(version.source):
            run_id, path = of_a_run.groups()
            model = self._logged_by(run_id, path)
            location = self._run_location(run_id)
            return self._model_place(model) if model else own_place(f"{location}/{path}", what)
        return own_place(version.source, what)

    def _run_place(self, run_id: str) -> str:
        return own_place(self._run_location(run_id), f"run {run_id}")

    def _run_location(self, run_id: str) -> str:
        return self._run(run_id).info.artifact_uri

    def _run(self, run_id: str) -> Run:
        return self._server.get("/runs/get", OneRun, f"run {run_id}", run_id=run_id).run

    def _model_place(self, model_id: str) -> str:
        what = f"logged model {model_id}"
        found = self._server.get(f"/logged-models/{quote(model_id, safe='')}", OneLoggedModel, what)
        return own_place(found.model.info.artifact_uri, what)

    def _logged_by(self, run_id: str, name: str) -> str | None:
        """Return the id of the newest model that a run logged by a name; a plain folder of the run is none."""
        asked = {
            "experiment_ids": [self._run(run_id).info.experiment_id],
            "filter": f"source_run_id = '{run_id}'",
            "order_by": [{"field_name": "creation_timestamp", "ascending": False}],
            "max_results": 50,
        }
        found = self._server.send("POST", "/logged-models/search", LoggedModels, f"models of run {run_id}", asked)
        return next((model.info.model_id for model in found.models if model.info.name == name), None)

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
    )
