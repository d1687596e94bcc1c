"""Ask the target once, before the load, whether it is there and which version it serves."""

import http.client
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from loadtests.look import LoadError
from loadtests.personas import requests_of, route_of
from loadtests.plan import Plan
from loadtests.samples import OK, Persona
from loadtests.verdict import Check, Verdict


def check_target(plan: Plan, rows: Sequence[dict[str, Any]]) -> Check | None:
    """Return a check that holds the run back where another version answers; raise LoadError where none does.

    An error status is not held back: the load will count it.
    """
    url = urlsplit(plan.host)
    secure = url.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=plan.timeout_s)
    try:
        persona = next((each for each, _ in plan.mix if route_of(each, plan.path) == plan.path), Persona.SINGLE)
        asked = requests_of(persona, rows, plan.path)[0]
        connection.request("POST", asked.route, asked.body, {"Content-Type": asked.content_type})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise LoadError(f"{plan.host}{plan.path} does not answer: {error}") from error
    finally:
        connection.close()
    if response.status != OK:
        return None
    version = _version(body)
    if version == plan.expected_version:
        return None
    served = f'the target serves "{version}", the plan expects "{plan.expected_version}"'
    message = f"INCONCLUSIVE: versions: {served}"
    return Check("versions", Verdict.INCONCLUSIVE, None, None, message)


def _version(body: bytes) -> str:
    try:
        return str(json.loads(body)["version"])
    except (ValueError, KeyError, TypeError):
        return ""
