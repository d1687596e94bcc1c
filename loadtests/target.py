"""Ask the target once, before the load, whether it is there and which version it serves."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from loadtests.look import LoadError
from loadtests.plan import Plan
from loadtests.samples import OK
from loadtests.verdict import Check, Verdict


def check_target(plan: Plan, row: dict[str, Any]) -> Check | None:
    """Return a check that holds the run back where another version answers; raise LoadError where none does.

    An error status is not held back: the load will count it.
    """
    url = urlsplit(plan.host)
    secure = url.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=plan.timeout_s)
    try:
        connection.request("POST", plan.path, json.dumps(row), {"Content-Type": "application/json"})
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
