"""Log lines as JSON on stderr: the service's own events, and what gunicorn and uvicorn have to say."""

import contextlib
import json
import logging
import sys
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TextIO

from gunicorn.glogging import Logger


class Level(StrEnum):
    """How much a line matters."""

    INFO = "info"
    ERROR = "error"


class EventLog:
    """Writes events of one replica; every line carries `context` (stage, model, version, digest)."""

    def __init__(self, stream: TextIO | None = None, **context: Any) -> None:
        self._stream = stream or sys.stderr
        self._context = context

    def write(self, level: Level, event: str, **fields: Any) -> None:
        """Write one line; values that JSON does not know are written as text. A full disk costs the line alone."""
        line = {"time": _now(), "level": level, "event": event, **self._context, **fields}
        with contextlib.suppress(OSError):
            self._stream.write(json.dumps(line, default=str) + "\n")
            self._stream.flush()


class JsonFormatter(logging.Formatter):
    """One log record as one JSON line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a traceback becomes its `exception`."""
        line = {
            "time": _now(),
            "level": record.levelname.lower(),
            "event": "log",
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class JsonLogger(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's logger with JSON lines, silent about a boot failure that the worker has explained."""

    def setup(self, cfg: Any) -> None:
        """Configure gunicorn's handlers and replace their format."""
        super().setup(cfg)
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonFormatter())
            handler.addFilter(_says_more_than_the_worker)


def _says_more_than_the_worker(record: logging.LogRecord) -> bool:
    # Whoever starts replicas shows the last lines: they must be the reason, and the arbiter's are not.
    summaries = ("Reason: Worker failed to boot.", "Shutting down: Master")
    message = record.getMessage()
    return message not in summaries and not message.endswith("exited with code 3.")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
