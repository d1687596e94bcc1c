"""What a registered version is made of stays as it was: nothing is written over it, and nothing put in its place.

A file is looked at when it has come as a whole, for a version may be registered while it comes.
"""

import posixpath
import re
from collections.abc import MutableMapping
from typing import Any

from mlflow.server.handlers import _get_artifact_repo_mlflow_artifacts, _get_model_registry_store
from mlflow.utils.uri import validate_path_is_safe

ROUTE = "/api/2.0/mlflow-artifacts/artifacts/<path:artifact_path>"
_ARTIFACT = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts/(.+)", re.DOTALL)
# Of a run, and of a logged model.
_OWNER = re.compile(r"[0-9a-f]{32}|m-[0-9a-f]{32}")


def path_of(address: str) -> str | None:
    """Return the path of the file that an address is about, None if it is about none."""
    found = _ARTIFACT.fullmatch(address)
    return found[1] if found else None


def is_file(scope: MutableMapping[str, Any]) -> bool:
    """Whether MLflow's own route for a file, the one that keeps no body in memory, will answer."""
    # A path with a line's end is no route's, and so Flask's.
    return scope["method"] == "PUT" and scope["path"].isprintable() and path_of(scope["path"]) is not None


def owners_of(*texts: str) -> set[str]:
    """Return the ids of the runs and logged models that texts name."""
    return {owner for text in texts for owner in _OWNER.findall(text)}


def why_not_written(path: str) -> str | None:
    """Return why a file is not written by others than the promoter; None if it may be."""
    # As MLflow itself reads it: another way to write the same path would not be recognized below.
    if path != posixpath.normpath(validate_path_is_safe(path)):
        return "the path of a file is written in the plain way"
    if any(map(_is_registered, owners_of(path))) and _exists(path):
        return "files of registered versions are not overwritten"
    return None


def why_not_logged(run_id: str) -> str | None:
    """Return why a run logs no further model: a version's `runs:/` address might name it then; None if it may."""
    if _OWNER.fullmatch(run_id) and _has_versions(f"source_path LIKE 'runs:%{run_id}%'"):
        return "a run that a version was registered from by runs:/ logs no further models"
    return None


def _is_registered(owner: str) -> bool:
    of_the_run = [] if owner.startswith("m-") else [f"run_id = '{owner}'"]
    return any(map(_has_versions, [f"source_path LIKE '%{owner}%'", *of_the_run]))


def _has_versions(which: str) -> bool:
    return bool(_get_model_registry_store().search_model_versions(which, max_results=1))


def _exists(path: str) -> bool:
    folder = path.rpartition("/")[0]
    return any(each.path == path for each in _get_artifact_repo_mlflow_artifacts().list_artifacts(folder or None))
