"""What a version was built from, judged by and runs from, by digests, commits and runs, and which a prefix means."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pipelines.errors import UsageError

# A shorter one says too little, and may be a version's number.
FEWEST_DIGITS = 7
_HEX = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},64}}")
_NAMED = 10


class OriginKind(StrEnum):
    """What an origin is, in words for people."""

    RUN = "run"
    GIT_COMMIT = "git commit"
    TRAINING_DATA = "training data"
    TRAINING_ROWS = "hashes of training rows"
    REFERENCE = "reference rows"
    EVALUATION_SET = "evaluation set"
    JUDGED_BY = "set that judged it"
    DEPENDENCIES = "dependency set"
    BUNDLE = "bundle"
    IMAGE = "image"
    APP_IMAGE = "app image"


@dataclass(frozen=True, order=True)
class Origin:
    """Something that a version comes of, was judged by, or runs from: a digest, a commit, or the id of a run."""

    kind: OriginKind
    value: str

    @property
    def digits(self) -> str:
        """The hexadecimal digits alone, without the name of an image or of the hash."""
        return _digits(self.value)


def origins_of(provenance: dict[str, Any]) -> list[Origin]:
    """Return what the provenance of a bundle names; what its version does not say is left out."""
    datasets = provenance["datasets"]
    named = {
        OriginKind.RUN: provenance["run_id"],
        OriginKind.GIT_COMMIT: provenance["git_commit"],
        OriginKind.TRAINING_DATA: datasets["train"],
        OriginKind.TRAINING_ROWS: datasets.get("training_rows"),
        OriginKind.REFERENCE: datasets.get("reference"),
        OriginKind.EVALUATION_SET: datasets["evaluation"],
        OriginKind.DEPENDENCIES: provenance["dependencies"],
    }
    return [Origin(kind, value) for kind, value in named.items() if value]


def meant(text: str, known: Iterable[Origin]) -> list[Origin]:
    """Return the origins of `known` that a hash, a commit or a run means: one value, which may be of several kinds.

    At least its first seven digits have to be given; what stands before a colon or an @ does not count. Raises
    UsageError where nothing known begins so, or several do, which it names.
    """
    digits = _digits(text.strip())
    if not _HEX.fullmatch(digits):
        raise UsageError(
            f"{text[:80]!r} is no version, and no hash or commit of at least {FEWEST_DIGITS} digits",
            next='"slipway versions" lists the versions',
        )
    found = sorted({origin for origin in known if origin.digits.startswith(digits)})
    if not found:
        raise UsageError(
            f"no version that was measured here comes of {text[:80]!r}, or was judged by it",
            next='"slipway lineage VERSION" says of what',
        )
    if len({origin.digits for origin in found}) > 1:
        named = ", ".join(f"{origin.kind} {origin.value}" for origin in found[:_NAMED])
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise UsageError(f"{text[:80]!r} may mean {named}{more}", next="give more of its digits")
    return found


def _digits(text: str) -> str:
    return text.rpartition("@")[2].rpartition(":")[2].lower()
