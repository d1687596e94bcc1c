"""Talks to a model service over HTTP as a client would."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from pipelines.errors import DeployFailed
from pipelines.ports import HttpReply


class HttpProbe:
    """Fills ports.ServiceProbe; every call ends within `timeout_s`, or the time that it is given."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        # No proxy or certificate of the environment concerns a replica's own address.
        self._timeout_s = timeout_s
        self._client = httpx.Client(timeout=timeout_s, trust_env=False)

    def get(self, url: str) -> HttpReply:
        """Send a GET."""
        with _translated(url):
            return _answer(self._client.get(url))

    def post(self, url: str, content: bytes, headers: dict[str, str], *, timeout_s: float | None = None) -> HttpReply:
        """Send a POST with exactly these bytes; `timeout_s` is in place of the probe's own."""
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        with _translated(url):
            return _answer(self._client.post(url, content=content, headers=headers, timeout=wait_s))


def _answer(response: httpx.Response) -> HttpReply:
    try:
        body: Any = response.json()
    except json.JSONDecodeError:
        body = None
    return HttpReply(response.status_code, body, dict(response.headers))


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise DeployFailed(f"{url} does not answer: {error!r}", next='see "slipway logs"') from error
