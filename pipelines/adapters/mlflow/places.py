"""Finds where the files of versions, runs and logged models lie in the registry's own store.

Whoever registers a version says what it is made of and which run it is of: a run counts if it logged the model.
"""

import re
from urllib.parse import quote

from pipelines.adapters.mlflow.answers import (
    LoggedModelInfo,
    LoggedModels,
    OneLoggedModel,
    OneRegistered,
    OneRun,
    Origins,
    Run,
)
from pipelines.adapters.mlflow.rest import TrackingServer
from pipelines.adapters.mlflow.store import own_place
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import NotServable

_LOGGED = re.compile(r"models:/(m-[0-9a-f]+)")
_IN_A_MODEL = re.compile(r"/models/(m-[0-9a-f]+)/artifacts(?:/|$)")
# MLflow has no model with such a name.
_NO_MODELS_NAME = re.compile(r"[/:.%\"'\\]")
_OF_A_RUN = re.compile(r"runs:/([0-9a-f]+)/(.+)")


class Places:
    """The places in the store behind `server`; raises NotServable for those that lie elsewhere."""

    def __init__(self, server: TrackingServer) -> None:
        self._server = server

    def of_evidence(self, version: RegisteredVersion) -> list[str]:
        """Return the folders for a version's evidence: on its run, and on its logged model."""
        places = []
        if version.run_id:
            places.append(self.of_run(version.run_id) + self._folder(version, f"run_id = '{version.run_id}'"))
        if logged := _LOGGED.fullmatch(version.source):
            own = self._folder(version, f"source_path = '{version.source}'")
            places.append(self._model_place(logged[1]) + own)
        return places

    def of_model(self, version: RegisteredVersion, what: str) -> str:
        """Return where the model's files lie, asked of this server; refuse a run that did not log it.

        MLflow's own resolution of `models:/` asks the process-wide tracking address instead.
        """
        if logged := _LOGGED.fullmatch(version.source):
            model = self._logged(logged[1])
            _refuse_other_run(version, what, model.source_run_id)
            return own_place(model.artifact_uri, f"logged model {model.model_id}")
        if of_a_run := _OF_A_RUN.fullmatch(version.source):
            run_id, path = of_a_run.groups()
            _refuse_other_run(version, what, run_id)
            run = self.run(run_id)
            place = own_place(f"{run.info.artifact_uri}/{path}", what)
            found = self._logged_by(run_id, run.info.experiment_id, path, version)
            return own_place(found.artifact_uri, what) if found else place
        place = own_place(version.source, what)
        if in_a_model := _IN_A_MODEL.search(place):
            _refuse_other_run(version, what, self._logged(in_a_model[1]).source_run_id)
        elif version.run_id and not place.startswith(f"{self.of_run(version.run_id)}/"):
            _refuse_other_run(version, what, "")
        return place

    def of_run(self, run_id: str) -> str:
        """Return where a run's files lie."""
        return own_place(self.run(run_id).info.artifact_uri, f"run {run_id}")

    def run(self, run_id: str) -> Run:
        """Return a run."""
        return self._server.get("/runs/get", OneRun, f"run {run_id}", run_id=run_id).run

    def _model_place(self, model_id: str) -> str:
        return own_place(self._logged(model_id).artifact_uri, f"logged model {model_id}")

    def _logged(self, model_id: str) -> LoggedModelInfo:
        path, what = f"/logged-models/{quote(model_id, safe='')}", f"logged model {model_id}"
        return self._server.get(path, OneLoggedModel, what).model.info

    def _logged_by(
        self, run_id: str, experiment_id: str, name: str, version: RegisteredVersion
    ) -> LoggedModelInfo | None:
        """Return the newest model that a run had logged by a name when a version was registered from it.

        A plain folder of the run is none, and what the run logs later is no part of the version.
        """
        if _NO_MODELS_NAME.search(name):
            return None
        which = (
            f"source_run_id = '{run_id}' AND name = '{name}' AND creation_timestamp < {self._registered_at(version)}"
        )
        asked = {
            "experiment_ids": [experiment_id],
            "filter": which,
            "order_by": [{"field_name": "creation_timestamp", "ascending": False}],
            "max_results": 1,
        }
        found = self._server.send("POST", "/logged-models/search", LoggedModels, f"models of run {run_id}", asked)
        return next((model.info for model in found.models), None)

    def _registered_at(self, version: RegisteredVersion) -> int:
        query, what = {"name": version.model, "version": version.version}, f"version {version.version}"
        return self._server.get("/model-versions/get", OneRegistered, what, **query).model_version.creation_timestamp

    def _folder(self, version: RegisteredVersion, same: str) -> str:
        """Return where the evidence lies below what a version shares with others, of which the first came first."""
        query = {"filter": same, "max_results": "1", "order_by": "creation_timestamp ASC"}
        subject = f"versions with {same}"
        found = self._server.get_start("/model-versions/search", Origins, subject, **query).model_versions
        first = not found or (found[0].name, found[0].version) == (version.model, version.version)
        return "/evidence" if first else f"/evidence/{version.model}-v{version.version}"


def _refuse_other_run(version: RegisteredVersion, what: str, run_id: str) -> None:
    if version.run_id not in ("", run_id):
        raise NotServable(
            f"{what} names run {version.run_id[:40]}, which did not log its model",
            next="register it again with the run that logged it, or with none",
        )
