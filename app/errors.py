"""What can go wrong in the service; only `main` and `worker` turn these into statuses and exit codes.

ServiceError
|-- StartupError          the replica must not accept a request
|   |-- SettingsError
|   `-- BundleError
`-- RequestError          one request is refused; carries the HTTP status and the error's code
    `-- InvalidFields
"""

from dataclasses import dataclass
from http import HTTPStatus

import msgspec


class ServiceError(Exception):
    """Any failure that the service itself names."""


class StartupError(ServiceError):
    """The replica cannot serve what it was told to serve."""


class SettingsError(StartupError):
    """The environment variables do not describe a release."""


class BundleError(StartupError):
    """The bundle on disk is not the one released, or does not answer as it did at packaging."""


@dataclass(frozen=True)
class FieldError:
    """One refused field: its path ("tenure", "rows.3.tenure") and why."""

    field: str
    message: str


class RequestError(ServiceError):
    """A refused request."""

    def __init__(self, status: HTTPStatus, code: str, message: str, fields: tuple[FieldError, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.fields = fields


class InvalidFields(RequestError):
    """The body is JSON, but not what the schema asks for."""

    def __init__(self, fields: tuple[FieldError, ...]) -> None:
        super().__init__(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_field", f"{len(fields)} field(s) refused", fields)


def error_body(error: RequestError, request_id: str) -> bytes:
    """Return the JSON body of a refusal."""
    content = {
        "code": error.code,
        "message": str(error),
        "fields": error.fields,
        "request_id": request_id,
    }
    return msgspec.json.encode({"error": content})
