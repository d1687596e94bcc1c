"""Ask the target once, before the load, whether it is there and which version it serves."""

import http.client
import math
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from loadtests.judge.verdict import Check, Verdict, quoted
from loadtests.plan.personas import Request, check_reply
from loadtests.plan.plan import Plan
from loadtests.runner.caller import LoadError
from loadtests.samples import OK

LONGEST_ERROR = 200


@dataclass(frozen=True)
class First:
    """The first answer: a check that holds the run back, if it must be, and its latency; infinite for an error."""

    refused: Check | None
    latency_ms: float


def check_target(plan: Plan, request: Request) -> First:
    """Hold the run back where another version answers; raise LoadError where none does.

    An error status is not held back: the load will count it.
    """
    url = urlsplit(plan.host)
    secure = url.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=plan.timeout_s)
    began_s = time.monotonic()
    try:
        connection.request("POST", request.route, request.body, {"Content-Type": request.content_type})
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        # A malformed answer is quoted by its error.
        raise LoadError(f"{plan.host}{plan.path} does not answer: {quoted(str(error), LONGEST_ERROR)}") from error
    finally:
        connection.close()
    latency_ms = (time.monotonic() - began_s) * 1000
    if response.status != OK:
        return First(None, math.inf)
    version = check_reply(request, response.status, body).version
    if version == plan.expected_version:
        return First(None, latency_ms)
    served = f'the target serves {quoted(version)}, the plan expects "{plan.expected_version}"'
    message = f"INCONCLUSIVE: versions: {served}"
    return First(Check("versions", Verdict.INCONCLUSIVE, None, None, message), latency_ms)
