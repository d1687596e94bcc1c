"""Asks a tracking server over MLflow's REST interface, without MLflow's own client, which reads whatever is sent.

Who may register a version also says how many tags it has, and how long they are: so each answer is bounded, and counts
only in the form of `answers.py`.
"""

import json
import ssl
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError
from pydantic_core import from_json

from pipelines.adapters.exchange import streamed
from pipelines.adapters.mlflow.answers import Answer, Refusal
from pipelines.adapters.mlflow.refusals import UNKNOWN, forbidden, unavailable, unknown
from pipelines.errors import RegistryUnavailable, SlipwayError, UsageError

# A run with all its metrics and parameters takes less.
MOST_BYTES = 4 << 20
# What an answer is about stands at its beginning, before what people say of it.
_START_BYTES = 64 << 10
_API = "/api/2.0/mlflow"
# For an alias that a model does not have; names are checked before they are asked for.
_UNKNOWN_ALIAS = UNKNOWN | {"INVALID_PARAMETER_VALUE"}
_FORBIDDEN = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
_PASSING = {429, 500, 502, 503, 504}
_TRIES = 2

A = TypeVar("A", bound=Answer)


def checked_url(url: str) -> str:
    """Return `url` if it is a tracking server's address; raise UsageError for files and databases."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"tracking URI {url!r} is no server", next="give http://host:port")
    return url.rstrip("/")


class TrackingServer:
    """The server at `url`, asked as the user and password of `login`; a request has `timeout_s` and is repeated once.

    `trust` decides which certificates are good.

    Raises UnknownVersion, NotAllowed and RegistryUnavailable, in which `subject` is what was asked for.
    """

    def __init__(
        self, url: str, *, login: tuple[str, str] | None, timeout_s: float, trust: ssl.SSLContext | bool = True
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._client = httpx.Client(
            base_url=url,
            timeout=timeout_s,
            trust_env=False,
            verify=trust,
            auth=login,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def get(self, path: str, kind: type[A], subject: str, **query: str) -> A:
        """Return an answer."""
        return self._whole("GET", path, kind, subject, params=query)

    def get_small(self, path: str, kind: type[A], subject: str, most_bytes: int, **query: str) -> A | None:
        """Return an answer, or None for one of more than so many bytes."""
        status, content, cut = self._asked("GET", path, subject, most_bytes, params=query)
        return None if cut else self._checked(status, content, kind, subject)

    def get_start(self, path: str, kind: type[A], subject: str, **query: str) -> A:
        """Return what the beginning of an answer says, however long that is."""
        status, content, cut = self._asked("GET", path, subject, _START_BYTES, params=query)
        if cut:
            with suppress(ValueError):
                content = json.dumps(from_json(content, allow_partial=True)).encode()
        return self._checked(status, content, kind, subject, missing=_UNKNOWN_ALIAS)

    def send(self, method: str, path: str, kind: type[A], subject: str, body: Mapping[str, Any]) -> A:
        """Send JSON and return the answer; what is sent twice must not make a difference."""
        return self._whole(method, path, kind, subject, json=dict(body))

    def _whole(self, method: str, path: str, kind: type[A], subject: str, **more: Any) -> A:
        status, content, cut = self._asked(method, path, subject, MOST_BYTES, **more)
        if cut:
            raise RegistryUnavailable(
                f"MLflow at {self._url} says more than {MOST_BYTES:,} bytes of {subject}",
                next="remove what is so large of it, or register it from another run: tags, parameters or metrics",
            )
        return self._checked(status, content, kind, subject)

    def failure(self, subject: str, error: httpx.HTTPError) -> SlipwayError:
        """Return the refusal for a failed exchange with the server's store."""
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in _FORBIDDEN:
            return forbidden(subject)
        return self._unavailable(subject, str(error)[:300])

    def _asked(self, method: str, path: str, subject: str, most_bytes: int, **more: Any) -> tuple[int, bytes, bool]:
        """Return status and content, of which no more than so many bytes, and whether it was cut there."""
        for left in reversed(range(_TRIES)):
            try:
                status, content, cut = self._exchange(method, path, most_bytes, more)
            except httpx.HTTPError as error:
                if left:
                    continue
                raise self._unavailable(subject, repr(error)) from error
            if status not in _PASSING or not left:
                return status, content, cut
        raise AssertionError("the last try returns or raises")

    def _exchange(self, method: str, path: str, most_bytes: int, more: dict[str, Any]) -> tuple[int, bytes, bool]:
        content = bytearray()
        # Not packed: a few bytes could become gigabytes.
        headers = {"Accept-Encoding": "identity"}
        asked = streamed(self._client, method, _API + path, limit_s=self._timeout_s, headers=headers, **more)
        with asked as answer:
            for part in answer.iter_raw():
                content += part
                if len(content) > most_bytes:
                    return answer.status_code, bytes(content[:most_bytes]), True
        return answer.status_code, bytes(content), False

    def _checked(
        self, status: int, content: bytes, kind: type[A], subject: str, missing: Collection[str] = UNKNOWN
    ) -> A:
        if status == httpx.codes.OK:
            try:
                return kind.model_validate_json(content or b"{}")
            except ValidationError as error:
                raise self._unavailable(subject, f"what answers there is not MLflow: {content[:60]!r}") from error
        if status in _FORBIDDEN:
            raise forbidden(subject)
        try:
            refusal = Refusal.model_validate_json(content)
        except ValidationError:
            refusal = Refusal()
        if refusal.error_code in missing:
            raise unknown(subject)
        raise self._unavailable(subject, f"it answered {status} {refusal.message[:200]}".rstrip())

    def _unavailable(self, subject: str, why: str) -> RegistryUnavailable:
        return unavailable(self._url, subject, why)
