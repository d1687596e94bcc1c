"""Talks to a model service over HTTP as a client would."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from pipelines.adapters.exchange import streamed
from pipelines.documents import DocumentError, parse_json
from pipelines.errors import DeployFailed
from pipelines.ports import HttpReply

# What is asked for takes some kilobytes.
MOST_BYTES = 4 << 20


class HttpProbe:
    """Fills ports.ServiceProbe; every call ends within `timeout_s`, or the time that it is given, and is bounded."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        # No proxy or certificate of the environment concerns a replica's own address.
        self._timeout_s = timeout_s
        self._client = httpx.Client(
            trust_env=False,
            headers={"Accept-Encoding": "identity"},
            # An address may be another replica's by the next call.
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def get(self, url: str) -> HttpReply:
        """Send a GET."""
        return self._send("GET", url, self._timeout_s)

    def post(self, url: str, content: bytes, headers: dict[str, str], *, timeout_s: float | None = None) -> HttpReply:
        """Send a POST with exactly these bytes; `timeout_s` is in place of the probe's own."""
        wait_s = self._timeout_s if timeout_s is None else timeout_s
        return self._send("POST", url, wait_s, content=content, headers=headers)

    def _send(self, method: str, url: str, wait_s: float, **more: Any) -> HttpReply:
        content = bytearray()
        asked = streamed(self._client, method, url, limit_s=wait_s, timeout=wait_s, **more)
        with _translated(url), asked as response:
            for part in response.iter_raw():
                content += part
                if len(content) > MOST_BYTES:
                    raise DeployFailed(f"{url} answers more than {MOST_BYTES:,} bytes", next='see "slipway logs"')
        try:
            body: Any = parse_json(bytes(content), most_bytes=MOST_BYTES)
        except DocumentError:
            body = None
        return HttpReply(response.status_code, body, dict(response.headers))


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise DeployFailed(f"{url} does not answer: {error!r}", next='see "slipway logs"') from error
