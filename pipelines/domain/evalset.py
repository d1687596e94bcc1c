"""The versions of a model's evaluation set, and which one judges: never one that no gate and nobody accepted.

A set is known by its digest. Every other one than before that a version brings, or a person adds, is the next version
of the model's set.
"""

import itertools
from collections.abc import Sequence

from pipelines.domain.records import AddedSet, Evaluation, PinnedVersion
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


def set_numbers(pins: Sequence[PinnedVersion], added: Sequence[AddedSet]) -> dict[str, int]:
    """Return which version of a model's evaluation set each digest is, in their order: 1 is the first one.

    An added set has the number that came next when it was added; those that versions have brought have the others.
    """
    numbers = {each.digest: each.number for each in added if each.number is not None}
    taken = set(numbers.values())
    free = (number for number in itertools.count(1) if number not in taken)
    for pin in pins:
        if pin.evalset_digest not in numbers:
            numbers[pin.evalset_digest] = next(free)
    return dict(sorted(numbers.items(), key=lambda each: each[1]))


def training_rows_name(digest: str) -> str:
    """Return the name of the file of a version's training rows, beside the evaluation sets."""
    return f"{digest.replace(':', '-')}.rows"


def reference_name(digest: str) -> str:
    """Return the name of the file of the rows that drift is measured against, beside the evaluation sets."""
    return f"{digest.replace(':', '-')}.reference"
