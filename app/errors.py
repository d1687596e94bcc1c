"""What can go wrong in the service; only `main` and `worker` turn these into statuses and exit codes.

ServiceError
|-- StartupError          the replica must not accept a request
|   |-- SettingsError
|   `-- BundleError
`-- RequestError          one request is refused; carries the HTTP status and the error's code
    |-- NotJson
    |-- InvalidFields
    |-- Busy
    `-- TooLate
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta

RETRY_AFTER_S = 1
# Who sends a few bytes, or a name of a million characters, is not answered with as many.
_MOST_CHARS = 300
_LISTED_FIELDS = 100
_LISTED_BYTES = 16_384
# As ONNX Runtime and the C++ library say it, which have no class of their own for it.
_NO_MEMORY = ("Failed to allocate memory", "bad allocation", "bad_alloc")


class ServiceError(Exception):
    """Any failure that the service itself names."""


class StartupError(ServiceError):
    """The replica cannot serve what it was told to serve."""


class SettingsError(StartupError):
    """The environment variables do not describe a release."""


class BundleError(StartupError):
    """The bundle on disk is not the one released, or does not answer as it did at packaging."""


class FieldError(msgspec.Struct, frozen=True):
    """One refused field."""

    field: Annotated[str, Meta(description="Its path, such as `tenure` or `rows.3.tenure`.")]
    message: Annotated[str, Meta(description="Why it is refused.")]


class ErrorContent(msgspec.Struct):
    """Why a request is refused."""

    code: Annotated[str, Meta(description="The kind of refusal, such as `invalid_field`.")]
    message: str
    fields: Annotated[
        tuple[FieldError, ...], Meta(description="The refused fields: the first 100 at most, and 16 KiB.")
    ]
    request_id: Annotated[str, Meta(description="The same as the header X-Request-Id.")]


class ErrorReply(msgspec.Struct):
    """The body of every refusal."""

    error: ErrorContent


class RequestError(ServiceError):
    """A refused request."""

    def __init__(self, status: HTTPStatus, code: str, message: str, fields: tuple[FieldError, ...] = ()) -> None:
        super().__init__(_clipped(message))
        self.status = status
        self.code = code
        self.fields = fields


class NotJson(RequestError):
    """The body is no JSON."""

    def __init__(self, message: str) -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, "invalid_json", message)


class Busy(RequestError):
    """More is under way than can be answered in time; the client may come again after `RETRY_AFTER_S`."""

    def __init__(self, message: str) -> None:
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, "busy", message)


class TooLate(RequestError):
    """The request was not answered by its deadline."""

    def __init__(self, message: str) -> None:
        super().__init__(HTTPStatus.GATEWAY_TIMEOUT, "deadline", message)


class InvalidFields(RequestError):
    """The body is JSON, but not what the schema asks for; of many fields the first ones are named."""

    def __init__(self, fields: Sequence[FieldError]) -> None:
        listed = _listed(fields)
        super().__init__(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_field", f"{len(listed)} field(s) refused", listed)


def _listed(fields: Sequence[FieldError]) -> tuple[FieldError, ...]:
    listed: list[FieldError] = []
    left = _LISTED_BYTES
    for each in fields[:_LISTED_FIELDS]:
        clipped = FieldError(_clipped(each.field), _clipped(each.message))
        # As JSON, in which one character may take six.
        left -= len(msgspec.json.encode(clipped))
        if left < 0:
            break
        listed.append(clipped)
    return tuple(listed)


def _clipped(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}... (of {len(text):,} characters)"


def lacks_memory(error: Exception) -> bool:
    """Whether something failed because its process may have no more memory."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)


def error_body(error: RequestError, request_id: str) -> bytes:
    """Return the JSON body of a refusal."""
    content = ErrorContent(error.code, str(error), error.fields, request_id)
    return msgspec.json.encode(ErrorReply(content))
