"""Reads where a model's aliases point, whatever people say of the versions that they point at.

MLflow sends a model together with its newest versions and all their tags; a promotion must not depend on their size.
"""

from pipelines.adapters.mlflow.answers import OneModel, OnePointed
from pipelines.adapters.mlflow.rest import MOST_BYTES, TrackingServer
from pipelines.domain.release import Environment
from pipelines.errors import UnknownVersion


def aliases_of(server: TrackingServer, model: str) -> dict[str, str]:
    """Return alias -> version; empty for a model without any, or an unknown one.

    Of a model that says too much these are the aliases of the environments, each asked for by itself.
    """
    subject = f"aliases of {model}"
    try:
        found = server.get_small("/registered-models/get", OneModel, subject, MOST_BYTES, name=model)
    except UnknownVersion:
        return {}
    if found is not None:
        return {each.alias: each.version for each in found.registered_model.aliases}
    pointed = {alias.value: _pointed(server, model, alias.value) for alias in Environment}
    return {alias: version for alias, version in pointed.items() if version}


def _pointed(server: TrackingServer, model: str, alias: str) -> str | None:
    subject, asked = f"alias {alias} of {model}", {"name": model, "alias": alias}
    try:
        return server.get_start("/registered-models/alias", OnePointed, subject, **asked).model_version.version
    except UnknownVersion:
        return None
