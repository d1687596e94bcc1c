"""Asks a tracking server over MLflow's REST interface, without MLflow's own client, which reads whatever is sent.

Who may register a version also says how many tags it has, and how long they are: so each answer is bounded, and counts
only in the form of `answers.py`.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import httpx
from pydantic import ValidationError

from pipelines.adapters.exchange import streamed
from pipelines.adapters.mlflow.answers import Answer, Refusal
from pipelines.errors import NotAllowed, RegistryUnavailable, SlipwayError, UnknownVersion, UsageError

# A run with all its metrics and parameters takes less.
MOST_BYTES = 4 << 20
_API = "/api/2.0/mlflow"
# What MLflow calls that which is not there.
UNKNOWN = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
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

    Raises UnknownVersion, NotAllowed and RegistryUnavailable, in which `subject` is what was asked for.
    """

    def __init__(self, url: str, *, login: tuple[str, str] | None, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._client = httpx.Client(
            base_url=url,
            timeout=timeout_s,
            trust_env=False,
            auth=login,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def get(self, path: str, kind: type[A], subject: str, **query: str) -> A:
        """Return an answer."""
        found = self.get_small(path, kind, subject, MOST_BYTES, **query)
        if found is None:
            raise self._unavailable(subject, f"it says more than {MOST_BYTES:,} bytes")
        return found

    def get_small(self, path: str, kind: type[A], subject: str, most_bytes: int, **query: str) -> A | None:
        """Return an answer, or None for one of more than so many bytes."""
        status, content = self._asked("GET", path, subject, most_bytes, params=query)
        return None if content is None else self._checked(status, content, kind, subject)

    def send(self, method: str, path: str, kind: type[A], subject: str, body: Mapping[str, Any]) -> A:
        """Send JSON and return the answer; what is sent twice must not make a difference."""
        status, content = self._asked(method, path, subject, MOST_BYTES, json=dict(body))
        if content is None:
            raise self._unavailable(subject, f"it says more than {MOST_BYTES:,} bytes")
        return self._checked(status, content, kind, subject)

    def failure(self, subject: str, error: httpx.HTTPError) -> SlipwayError:
        """Return the refusal for a failed exchange with the server's store."""
        if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in _FORBIDDEN:
            return forbidden(subject)
        return self._unavailable(subject, str(error)[:300])

    def _asked(self, method: str, path: str, subject: str, most_bytes: int, **more: Any) -> tuple[int, bytes | None]:
        for left in reversed(range(_TRIES)):
            try:
                status, content = self._exchange(method, path, most_bytes, more)
            except httpx.HTTPError as error:
                if left:
                    continue
                raise self._unavailable(subject, repr(error)) from error
            if status not in _PASSING or not left:
                return status, content
        raise AssertionError("the last try returns or raises")

    def _exchange(self, method: str, path: str, most_bytes: int, more: dict[str, Any]) -> tuple[int, bytes | None]:
        content = bytearray()
        # Not packed: a few bytes could become gigabytes.
        headers = {"Accept-Encoding": "identity"}
        asked = streamed(self._client, method, _API + path, limit_s=self._timeout_s, headers=headers, **more)
        with asked as answer:
            for part in answer.iter_raw():
                content += part
                if len(content) > most_bytes:
                    return answer.status_code, None
        return answer.status_code, bytes(content)

    def _checked(self, status: int, content: bytes, kind: type[A], subject: str) -> A:
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
        if refusal.error_code in UNKNOWN:
            raise unknown(subject)
        raise self._unavailable(subject, f"it answered {status} {refusal.message[:200]}".rstrip())

    def _unavailable(self, subject: str, why: str) -> RegistryUnavailable:
        return unavailable(self._url, subject, why)


def unknown(subject: str) -> UnknownVersion:
    """Return the refusal of what MLflow does not know."""
    return UnknownVersion(
        f"MLflow knows no {subject}",
        next='see what is registered on MLflow\'s page, or register a version with "make candidate"',
    )


def forbidden(subject: str) -> NotAllowed:
    """Return the refusal of what MLflow does not let this process do."""
    return NotAllowed(f"MLflow forbids {subject}", next="check this process's credential")


def unavailable(url: str, subject: str, why: str) -> RegistryUnavailable:
    """Return the refusal for a server that does not answer, or not as MLflow does."""
    return RegistryUnavailable(
        f"MLflow at {url} did not answer for {subject}: {why}",
        next='run "make up", or look at the log of the model registry with "make logs"',
    )
