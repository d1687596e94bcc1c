"""The one validator for names that come from outside: models, versions, people."""

import re

from pipelines.errors import UsageError

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def checked_name(value: str, *, what: str) -> str:
    """Return `value` if it is a plain ASCII name of at most 128 characters.

    Raises UsageError, quoting at most 40 characters of what was given.
    """
    if not _NAME.fullmatch(value) or ".." in value:
        raise UsageError(
            f"{what} {value[:40]!r} is not a name",
            next="use letters, digits, dots, dashes and underscores (at most 128, no '..')",
        )
    return value


def is_version(value: str) -> bool:
    """Whether `value` is a registry version: a positive whole number, as text."""
    return _VERSION.fullmatch(value) is not None


def checked_version(value: str) -> str:
    """Return `value` if it is a registry version."""
    if not is_version(value):
        raise UsageError(
            f"version {value[:40]!r} is not a version number",
            next='give the number that MLflow shows, such as "make promote VERSION=3"',
        )
    return value
