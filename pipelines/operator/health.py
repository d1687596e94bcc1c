"""Asks an environment itself what it serves."""

import json
from typing import Any

from pipelines.domain.release import Environment
from pipelines.errors import Undecided
from pipelines.settings.settings import Settings


def read_health(settings: Settings, environment: Environment, model: str = "") -> dict[str, Any]:
    """Ask an environment what it serves of a model; raise Undecided when it does not answer."""
    from pipelines.api.client import direct_opener

    url = settings.address(settings.endpoint(environment, model))
    try:
        with direct_opener(settings).open(f"{url}/health", timeout=5) as response:
            body: dict[str, Any] = json.load(response)
    except OSError as error:
        raise Undecided(f"{environment} at {url} does not answer: {error}", next='"slipway logs"') from error
    return body
