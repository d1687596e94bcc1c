"""Makes the failures of MLflow's own client Slipway's, and gives its calls a bounded time: for the trainer alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from mlflow.exceptions import MlflowException

from pipelines.adapters.mlflow.refusals import UNKNOWN, forbidden, unavailable, unknown

_FORBIDDEN = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}


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
        if error.error_code in UNKNOWN:
            raise unknown(subject) from error
        if error.error_code in _FORBIDDEN:
            raise forbidden(subject) from error
        raise unavailable(uri, subject, str(error)[:300]) from error
    except requests.exceptions.RequestException as error:
        raise unavailable(uri, subject, str(error)[:300]) from error
