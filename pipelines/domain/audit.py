"""The audit chain: each entry's hash covers its content and its predecessor's hash."""

import hashlib
import json
import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.errors import Undecided, UsageError

GENESIS = "0" * 64
# Actions that change something outside of Slipway's own state: each intent gets its outcome.
_EFFECTS = ("release.", "alias.", "revival")
_TEXT = re.compile("([1-9][0-9]{0,17}):([0-9a-f]{64})")


@dataclass(frozen=True)
class Entry:
    """One audited fact; `seq` counts from 1 without a gap, `at` is ISO 8601 UTC and only informs."""

    seq: int
    at: str
    actor: str
    action: str
    phase: str
    subject: str
    detail: dict[str, Any]
    prev_hash: str
    hash: str


@dataclass(frozen=True)
class Checkpoint:
    """The last entry's number and hash, kept outside the database; as text `SEQ:HASH`."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """Read what `str` gave; raise UsageError for anything else."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise UsageError(
                f"{text[:80]!r} is no head of an audit log",
                next="give its number and its hash, as SEQ:HASH, which backup and restore print",
            )
        return cls(int(match[1]), match[2])


@dataclass(frozen=True)
class ChainCheck:
    """What a verification found; `first_bad` is the `seq` of the first entry that does not hold."""

    valid: bool
    entries: int
    first_bad: int | None
    detail: str


def entry_hash(entry: Entry) -> str:
    """Return the hex SHA-256 over every field of `entry` but its own hash."""
    content = [entry.seq, entry.at, entry.actor, entry.action, entry.phase, entry.subject]
    canonical = json.dumps(
        [*content, entry.detail, entry.prev_hash], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return hashlib.sha256(canonical.encode()).hexdigest()


def chained(previous: Checkpoint | None, entry: Entry) -> Entry:
    """Return `entry` placed after `previous`, with its number and hashes filled in."""
    seq = previous.seq + 1 if previous else 1
    prev_hash = previous.hash if previous else GENESIS
    placed = Entry(seq, entry.at, entry.actor, entry.action, entry.phase, entry.subject, entry.detail, prev_hash, "")
    return Entry(**{**placed.__dict__, "hash": entry_hash(placed)})


def open_intents(entries: Iterable[Entry]) -> list[Entry]:
    """Return the intents of outside effects that have no outcome: what was cut off."""
    begun: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        effect = (entry.action, entry.subject)
        if entry.phase == "outcome":
            begun.pop(effect, None)
        elif entry.action.startswith(_EFFECTS):
            begun.setdefault(effect, []).append(entry)
    return sorted((entry for left in begun.values() for entry in left), key=lambda entry: entry.seq)


def prove(entries: Iterable[Entry], checkpoints: Sequence[Checkpoint]) -> ChainCheck:
    """Verify the chain of an installation, which keeps a checkpoint of each entry outside before its writer goes on.

    Raises Undecided for entries that hold, but of which no checkpoint is there: then nothing shows that these are all.
    """
    checked = verify(entries, checkpoints)
    if checked.valid and checked.entries and not checkpoints:
        raise Undecided(
            f"the {checked.entries} entries follow one another, but no checkpoint shows that these are all",
            next="bring the checkpoints back from a copy of the place where they are kept",
        )
    return checked


def verify(entries: Iterable[Entry], checkpoints: Iterable[Checkpoint]) -> ChainCheck:
    """Check the chain from its first entry on, and that it extends every outside checkpoint.

    An edit, a swap or a deletion in the middle shows at its own place; a deleted end, a rewritten
    chain and a restored old backup show against the checkpoints.
    """
    # Writers export beside each other: in order of number, the first contradiction is the earliest one.
    outside = deque(sorted(checkpoints, key=lambda checkpoint: checkpoint.seq))
    contradicted: Checkpoint | None = None
    prev_hash, count = GENESIS, 0
    for count, entry in enumerate(entries, start=1):
        wrong = None
        if entry.seq != count:
            wrong = f"entry {count} is missing (entry {entry.seq} stands in its place)"
        elif entry.prev_hash != prev_hash:
            wrong = f"entry {count} does not follow entry {count - 1}"
        elif entry_hash(entry) != entry.hash:
            wrong = f"entry {count} was changed after it was written"
        if wrong:
            return ChainCheck(False, count - 1, count, wrong)
        prev_hash = entry.hash
        while outside and outside[0].seq <= count and not contradicted:
            checkpoint = outside.popleft()
            contradicted = checkpoint if checkpoint != Checkpoint(count, entry.hash) else None
    if contradicted:
        detail = f"entry {contradicted.seq} differs from its checkpoint outside: the chain was rewritten"
        return ChainCheck(False, count, contradicted.seq, detail)
    if outside:
        detail = f"the chain ends at entry {count}, but a checkpoint outside names entry {outside[0].seq}"
        return ChainCheck(False, count, count + 1, detail)
    return ChainCheck(True, count, None, f"{count} entries hold")
