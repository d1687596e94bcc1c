"""Makes the failures of MLflow's own client Slipway's, and gives its calls a bounded time: for the trainer alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from mlflow.exceptions import MlflowException

from pipelines.errors import NotAllowed, RegistryUnavailable, UnknownVersion

_UNKNOWN = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
_FORBIDDEN = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
_START = 'run "make up", or look at the log of the model registry with "make logs"'


def bound_calls(*, timeout_s: float, retries: int) -> None:
    """Limit every MLflow call of this process: MLflow takes its limits from the environment only."""
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(max(1, round(timeout_s)))
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = str(retries)
    os.environ["MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR"] = "1"
    os.environ["MLFLOW_DOWNLOAD_CHUNK_TIMEOUT"] = str(max(1, round(timeout_s)))
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


@contextmanager
def mlflow_calls(uri: str, *, subject: str) -> Iterator[None]:
    """Turn MLflow's and its transport's errors into ours; `subject` is what was asked for."""
    try:
        yield
    except MlflowException as error:
        if error.error_code in _UNKNOWN:
            raise UnknownVersion(
                f"MLflow knows no {subject}",
                next='see what is registered on MLflow\'s page, or register a version with "make candidate"',
            ) from error
        if error.error_code in _FORBIDDEN:
            raise NotAllowed(f"MLflow forbids {subject}", next="check this process's credential") from error
        raise _unavailable(uri, subject, error) from error
    except requests.exceptions.RequestException as error:
        raise _unavailable(uri, subject, error) from error


def _unavailable(uri: str, subject: str, error: Exception) -> RegistryUnavailable:
    message = f"MLflow at {uri} did not answer for {subject}: {str(error)[:300]}"
    return RegistryUnavailable(message, next=_START)
