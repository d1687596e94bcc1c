"""How much the tags of a version, a run or a logged model may say.

MLflow sends all of them with whatever is asked about it, a version's also with its registered model, and writes each
character that is not ASCII in six bytes or twelve. Who reads an answer takes a few megabytes of it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from mlflow.protos.model_registry_pb2 import CreateModelVersion, SetModelVersionTag
from mlflow.protos.service_pb2 import CreateLoggedModel, CreateRun, LogBatch, SetLoggedModelTags, SetTag
from mlflow.server.handlers import _get_model_registry_store, _get_request_message, _get_tracking_store

MOST_BYTES = 256 * 1024
MOST_TAGS, MOST_TAG_CHARS = 100, 5000

Tags = Mapping[str, str]


def _none(_message: Any, _of: Mapping[str, Any]) -> Tags:
    return {}


def _of_a_version(message: Any, _of: Mapping[str, Any]) -> Tags:
    found: Tags = _get_model_registry_store().get_model_version(message.name, message.version).tags
    return found


def _of_a_run(message: Any, _of: Mapping[str, Any]) -> Tags:
    found: Tags = _get_tracking_store().get_run(message.run_id or getattr(message, "run_uuid", "")).data.tags
    return found


def _of_a_logged_model(_message: Any, of: Mapping[str, Any]) -> Tags:
    found: Tags = _get_tracking_store().get_logged_model(of["model_id"]).tags
    return found


# By route: its message, and what is held already of what it writes to.
_WRITES: dict[str, tuple[type, Callable[[Any, Mapping[str, Any]], Tags]]] = {
    "/logged-models": (CreateLoggedModel, _none),
    "/logged-models/<model_id>/tags": (SetLoggedModelTags, _of_a_logged_model),
    "/model-versions/create": (CreateModelVersion, _none),
    "/model-versions/set-tag": (SetModelVersionTag, _of_a_version),
    "/runs/create": (CreateRun, _none),
    "/runs/log-batch": (LogBatch, _of_a_run),
    "/runs/set-tag": (SetTag, _of_a_run),
}


def too_much(route: str, of: Mapping[str, Any]) -> str | None:
    """Return why the tags that this request writes, with those that are held, are too many or too long."""
    if route not in _WRITES:
        return None
    kind, held = _WRITES[route]
    message = _get_request_message(kind())
    written = {tag.key: tag.value for tag in ([message] if kind in (SetModelVersionTag, SetTag) else message.tags)}
    if not written:
        return None
    tags = {**held(message, of), **written}
    if route.startswith("/model-versions/") and (
        len(tags) > MOST_TAGS or any(len(value) > MOST_TAG_CHARS for value in written.values())
    ):
        return f"a version has {MOST_TAGS} tags of {MOST_TAG_CHARS} characters at most"
    size = sum(len(json.dumps(text)) for tag in tags.items() for text in tag)
    if size > MOST_BYTES:
        return f"its tags have {MOST_BYTES:,} bytes at most as MLflow sends them, and would have {size:,}"
    return None
