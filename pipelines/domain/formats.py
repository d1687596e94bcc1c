"""The one rule for what outlives a Slipway in its own form: what a newer one wrote is refused, with both versions."""

import re

from pipelines.errors import SlipwayError, UsageError

NEWER = "use the newer Slipway that wrote it"


def refuse_newer(
    what: str, *, found: object, known: int | str, next: str = NEWER, kind: type[SlipwayError] = UsageError
) -> None:
    """Raise `kind` where the version `found` of a form is above `known`, the newest that this code reads.

    A version is a number, or a text with numbers such as `3.17.1`; whatever else it is, is for the form to judge.
    """
    if isinstance(found, int | str) and not isinstance(found, bool) and _ordered(found) > _ordered(known):
        raise kind(f"{what} is of version {found}, and this Slipway reads {known} at most", next=next)


def _ordered(version: int | str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d{1,18}", str(version)))
