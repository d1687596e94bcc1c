"""Whose evaluation set judges a version that brings none: never that of a version that no gate and nobody accepted."""

from collections.abc import Sequence

from pipelines.domain.records import Evaluation, PinnedVersion
from pipelines.domain.verdict import Verdict


def judging_pins(
    pins: Sequence[PinnedVersion], evaluations: Sequence[Evaluation], *, version: str, champion: str | None
) -> list[PinnedVersion]:
    """Return the pins of a model whose sets may judge `version`, the first choice first.

    That is the set that it was judged by before, that of the champion, then those of versions that passed, the last
    one first. Pins and evaluations are the model's, oldest first.
    """
    found = {pin.version: pin for pin in pins}
    wanted = [version, *([champion] if champion else []), *passed(evaluations)]
    return [found[name] for name in dict.fromkeys(wanted) if name in found]


def passed(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return the versions that passed every gate, the one that did last first."""
    return [each.version for each in reversed(evaluations) if each.verdict == Verdict.PASSED]


def set_owner(pins: Sequence[PinnedVersion], digest: str) -> str | None:
    """Return the version that brought a set: the first one that was judged by it."""
    return next((pin.version for pin in pins if pin.evalset_digest == digest), None)
