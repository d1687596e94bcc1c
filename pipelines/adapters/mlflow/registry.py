"""MLflow as the model registry; nothing that it hands out is unpickled or trusted, only downloaded."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from pipelines.adapters.mlflow.errors import bound_calls, checked_uri, mlflow_calls
from pipelines.domain.names import checked_name, checked_version
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import NotServable, RegistryUnavailable, UnknownVersion
from pipelines.ports import FetchedModel

# A source that names a path or a bucket directly would make this process read it with its own rights.
_LOGGED = re.compile(r"models:/m-[0-9a-f]+")
_SERVED = re.compile(r"(runs:/[0-9a-f]+/.+|mlflow-artifacts:/.+)")
_LOG_LINE = 'mlflow.onnx.log_model(onnx_model, name="onnx", signature=infer_signature(X, y))'


class MlflowModelRegistry:
    """Fills the role ModelRegistry with an MLflow tracking server.

    `timeout_s` bounds one request; a call makes few of them and each is repeated once.
    """

    def __init__(self, tracking_uri: str, timeout_s: float = 10.0) -> None:
        self._uri = checked_uri(tracking_uri)
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

    def fetch_model(self, version: RegisteredVersion, into: Path) -> FetchedModel:
        """Download the ONNX model; raise NotServable when it or its signature is missing."""
        what = f"version {version.version} of {version.model}"
        into.mkdir(parents=True, exist_ok=True)
        with mlflow_calls(self._uri, subject=f"the model files of {what}"):
            repository = get_artifact_repository(self._location(version, what), tracking_uri=self._uri)
            held = {Path(info.path).name for info in repository.list_artifacts(None) if not info.is_dir}
            if "MLmodel" not in held:
                raise NotServable(f"{what} has no MLmodel file", next=_advice())
            model_file, input_types = _described(_fetched(repository, "MLmodel", into), what)
            if model_file not in held:
                raise NotServable(f"{what} has no file {model_file}", next=_advice())
            onnx_path = _fetched(repository, model_file, into)
            requirements = ""
            if "requirements.txt" in held:
                requirements = _fetched(repository, "requirements.txt", into).read_text(encoding="utf-8")
        return FetchedModel(onnx_path, input_types, requirements)

    def fetch_artifact(self, run_id: str, path: str, into: Path) -> Path | None:
        """Download one file of a run to `into / path`, or return None when the run has none at `path`."""
        into.mkdir(parents=True, exist_ok=True)
        parent = str(Path(path).parent)
        with mlflow_calls(self._uri, subject=f"artifact {path} of run {run_id}"):
            held = self._client.list_artifacts(run_id, None if parent == "." else parent)
            if not any(info.path == path and not info.is_dir for info in held):
                return None
            found = Path(self._client.download_artifacts(run_id, path, str(into)))
        # MLflow's client leaves the folders of `path` away.
        kept = into / path
        kept.parent.mkdir(parents=True, exist_ok=True)
        return found.rename(kept)

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
        with tempfile.TemporaryDirectory() as folder, mlflow_calls(self._uri, subject=subject):
            for name, content in files.items():
                (Path(folder) / checked_name(name, what="file name")).write_bytes(content)
            if version.run_id:
                self._client.log_artifacts(version.run_id, folder, "evidence")
            if _LOGGED.fullmatch(version.source):
                self._client.log_model_artifacts(version.source.removeprefix("models:/"), folder, "evidence")

    def _location(self, version: RegisteredVersion, what: str) -> str:
        """Return where the model's files lie, asked of this server.

        MLflow's own resolution of `models:/` asks the process-wide tracking address instead.
        """
        location = version.source
        if _LOGGED.fullmatch(location):
            logged = self._client.get_logged_model(location.removeprefix("models:/"))
            location = str(logged.artifact_location)
        if not _SERVED.fullmatch(location) or ".." in location:
            raise NotServable(f"{what} lies at {location[:80]!r}, outside of MLflow", next=_advice())
        return location


def _registered(found: ModelVersion) -> RegisteredVersion:
    return RegisteredVersion(
        model=str(found.name),
        version=str(found.version),
        run_id=str(found.run_id or ""),
        source=str(found.source or ""),
        tags={str(key): str(value) for key, value in (found.tags or {}).items()},
    )


def _advice() -> str:
    return f"log it with {_LOG_LINE} and register that model"


def _fetched(repository: Any, name: str, into: Path) -> Path:
    return Path(repository.download_artifacts(name, str(into)))


def _described(path: Path, what: str) -> tuple[str, dict[str, str]]:
    """Return the ONNX file's name and the column types out of an MLmodel file."""
    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
        flavor: dict[str, Any] | None = body["flavors"].get("onnx")
        columns = json.loads((body.get("signature") or {}).get("inputs") or "null")
        input_types = {str(column["name"]): str(column["type"]) for column in columns or ()}
        model_file = str(flavor.get("data", "")) if flavor else ""
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotServable(f"the MLmodel file of {what} can't be understood: {error!r}", next=_advice()) from error
    if flavor is None:
        raise NotServable(f"{what} has no ONNX model", next=_advice())
    if not input_types:
        raise NotServable(f"{what} has no signature with named columns", next=_advice())
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", model_file):
        raise NotServable(f"{what} names {model_file[:80]!r} as its model file", next=_advice())
    return model_file, input_types
