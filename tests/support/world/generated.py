"""Requests that schemathesis makes from what a server says of itself, right ones and wrong ones."""

from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, given, settings

EXAMPLES = 20


def send_generated(
    document: dict[str, Any], url: str, headers: dict[str, str] | None = None, *, examples: int = EXAMPLES
) -> list[str]:
    """Send requests to every route of an OpenAPI document; return those that were answered by a failure."""
    failed: list[str] = []
    session = requests.Session()
    session.trust_env = False
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()

        @settings(
            derandomize=True,
            database=None,
            deadline=None,
            max_examples=examples,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            answer = case.call(base_url=url, session=session, headers=headers, timeout=20)
            # A server that can't reach what is behind it says so.
            if answer.status_code >= 500 and answer.status_code != 503:
                failed.append(f"{case.as_curl_command()} -> {answer.status_code} {answer.text[:200]}")

        check()
    return failed
