"""MLflow as the model registry; nothing that it hands out is unpickled or trusted, only downloaded."""

import re
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from pipelines.adapters.mlflow.errors import bound_calls, checked_uri, mlflow_calls
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
        self._uri = checked_uri(tracking_uri)
        self._store = ArtifactStore(self._uri, login=login, timeout_s=timeout_s, bounds=bounds)
        bound_calls(timeout_s=timeout_s, retries=1)
        self._client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)

    def version(self, model: str, version: str) -> RegisteredVersion:
        """Return one version, or raise UnknownVersion."""
        name, number = checked_name(model, what="model"), checked_version(version)
        with mlflow_calls(self._uri, subject=f"version {number} of {name}"):
            return _registered(self._client.get_model_version(name, number))

    def newest(self, model: str) -> RegisteredVersion:
        """Return the version registered last, or raise UnknownVersion."""
        name = checked_name(model, what="model")
        with mlflow_calls(self._uri, subject=f"versions of {name}"):
            found = self._client.search_model_versions(
                f"name='{name}'", max_results=1, order_by=["version_number DESC"]
            )
        if not found:
            raise UnknownVersion(f"{name} has no registered version", next='run "make candidate"')
        return _registered(found[0])

    def fetch_model(self, version: RegisteredVersion, into: Path) -> None:
        """Download the files of the logged model into a directory, unread; raise NotServable when there is none."""
        what = f"version {version.version} of {version.model}"
        with mlflow_calls(self._uri, subject=f"the model files of {what}"):
            place = self._place(version, what)
            held = self._store.names(place)
            if FILE not in held:
                raise NotServable(f"{what} has no {FILE} file", next=ADVICE)
            self._store.fetch(place, held, into)

    def fetch_artifact(self, run_id: str, path: str, into: Path) -> Path | None:
        """Download one file of a run to `into / path`, or return None when the run has none at `path`."""
        parent, _, name = f"/{path}".rpartition("/")
        with mlflow_calls(self._uri, subject=f"artifact {path} of run {run_id}"):
            place = self._run_place(run_id) + parent
            if name not in self._store.names(place):
                return None
            (found,) = self._store.fetch(place, [name], (into / path).parent)
        return found

    def run_tags(self, run_id: str) -> dict[str, str]:
        """Return the tags of a run."""
        with mlflow_calls(self._uri, subject=f"run {run_id}"):
            return dict(self._client.get_run(run_id).data.tags)

    def aliases(self, model: str) -> dict[str, str]:
        """Return alias -> version; empty for a model without any, or an unknown model."""
        name = checked_name(model, what="model")
        try:
            with mlflow_calls(self._uri, subject=f"model {name}"):
                found = self._client.get_registered_model(name).aliases
        except UnknownVersion:
            return {}
        return {str(alias): str(version) for alias, version in found.items()}

    def move_alias(self, model: str, alias: str, version: str | None) -> None:
        """Point `alias` at `version`, or remove it with None; read it back before returning."""
        name = checked_name(model, what="model")
        if self.aliases(name).get(alias) == version:
            return
        with mlflow_calls(self._uri, subject=f"version {version} of {name}"):
            if version is None:
                self._client.delete_registered_model_alias(name, alias)
            else:
                self._client.set_registered_model_alias(name, alias, checked_version(version))
        found = self.aliases(name).get(alias)
        if found != version:
            raise RegistryUnavailable(
                f"alias {alias} of {name} reads {found} after it was moved to {version}",
                next="find out who else moves aliases, then try again",
            )

    def set_tag(self, model: str, version: str, key: str, value: str) -> None:
        """Set one tag of a version."""
        name, number = checked_name(model, what="model"), checked_version(version)
        with mlflow_calls(self._uri, subject=f"version {number} of {name}"):
            self._client.set_model_version_tag(name, number, key, value)

    def attach_evidence(self, version: RegisteredVersion, files: dict[str, bytes]) -> None:
        """Write `files` under `evidence/` on the run and on the logged model."""
        subject = f"evidence of version {version.version} of {version.model}"
        logged = _LOGGED.fullmatch(version.source)
        with mlflow_calls(self._uri, subject=subject):
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
        return str(self._client.get_run(run_id).info.artifact_uri)

    def _model_place(self, model_id: str) -> str:
        return own_place(str(self._client.get_logged_model(model_id).artifact_location), f"logged model {model_id}")

    def _logged_by(self, run_id: str, name: str) -> str | None:
        """Return the id of the newest model that a run logged by a name; a plain folder of the run is none."""
        experiment = self._client.get_run(run_id).info.experiment_id
        models = self._client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
        found = [model for model in models if model.name == name]
        return str(max(found, key=lambda model: model.creation_timestamp).model_id) if found else None


def _registered(found: ModelVersion) -> RegisteredVersion:
    return RegisteredVersion(
        model=str(found.name),
        version=str(found.version),
        run_id=str(found.run_id or ""),
        source=str(found.source or ""),
        tags={str(key): str(value) for key, value in (found.tags or {}).items()},
    )
