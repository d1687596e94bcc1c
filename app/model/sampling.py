"""Keeps a bounded sample of what was asked and answered in memory, until the executor pulls it.

Nothing is kept before the executor has said how much, and which features not. The path of a prediction only appends
to the ring; what is pulled is encoded when it is asked for, in short stretches.
"""

import asyncio
import math
import random
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from sys import getsizeof
from time import time as _now
from typing import Annotated

import msgspec
from msgspec import Meta

from app.model.description import AnyAnswer

# The ring holds no more, however many rows are asked for: of bodies with their answers, and of entries.
RING_BYTES = 4 << 20
MOST_ROWS = 10_000
# What an answer takes for each class whose probability it has.
CLASS_BYTES = 100
# So many rows of a batch are sampled, on average.
BATCH_ROWS = 100
# What one pull is answered with, about.
PULL_BYTES = 2 << 20
# Rows that are encoded while nothing else goes on in the replica.
_STRETCH_ROWS = 32
# So much of a batch is looked at to tell how many rows it has.
_LOOKED_AT_BYTES = 1 << 16


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be sampled: a share of the answered rows, so many at once, without some features."""

    rate: Annotated[float, Meta(ge=0, le=1)]
    rows: Annotated[int, Meta(ge=1, le=MOST_ROWS)]
    without: tuple[str, ...] = ()


class Pull(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Asks for what was sampled; `read` says up to which number it was read already, by what replicas call themselves.

    What was read is removed.
    """

    read: dict[str, int]
    plan: Plan


# Number, time, request id, row in a batch, the row, its answer, and the bytes of both: a tuple is made fastest.
_Entry = tuple[int, float, str, int, msgspec.Struct, AnyAnswer, int]


class SampledRequests:
    """The ring of one replica; one event loop only.

    `attributes` are those of a row, in the order of the names of `features`. An answer takes `answer_bytes` beside its
    row.
    """

    def __init__(
        self,
        features: Sequence[str],
        attributes: Sequence[str],
        *,
        digest: str | None,
        version: str | None,
        answer_bytes: int = 0,
        ring_bytes: int = RING_BYTES,
    ) -> None:
        self._attributes = dict(zip(features, attributes, strict=True))
        self._digest, self._version = digest, version
        self._answer_bytes, self._ring_bytes = answer_bytes, ring_bytes
        self._boot = secrets.token_hex(8)
        self._plan = Plan(0, 1)
        self._rate, self._most_rows = 0.0, 1
        self._hidden: tuple[str, ...] = ()
        self._ring: deque[_Entry] = deque()
        self._held_bytes = 0
        self._seen = self._last = 0
        self._encode = msgspec.json.Encoder().encode

    def note(self, request_id: str, row: msgspec.Struct, answer: AnyAnswer, size_bytes: int) -> None:
        """Count an answered row, and keep it if it is one of the sample."""
        self._seen += 1
        if self._rate and (self._rate >= 1 or random.random() < self._rate):
            self.keep(request_id, 0, row, answer, size_bytes)

    def of_batch(self, request_id: str, body: bytes | bytearray) -> "SampledBatch":
        """Return what the answered rows of a batch are noted with."""
        looked_at = min(len(body), _LOOKED_AT_BYTES)
        # As its beginning has them: a row is an object, and so is what holds them all.
        rows = max(1, (body.count(b"{", 0, looked_at) - 1) * len(body) // max(1, looked_at))
        return SampledBatch(self, request_id, min(self._rate, BATCH_ROWS / rows), len(body) // rows)

    def count(self, rows: int) -> None:
        """Count answered rows."""
        self._seen += rows

    def keep(self, request_id: str, number: int, row: msgspec.Struct, answer: AnyAnswer, size_bytes: int) -> None:
        """Keep one row of a request in place of the oldest, where the ring is full."""
        for attribute in self._hidden:
            setattr(row, attribute, None)
        ring = self._ring
        self._last = seq = self._last + 1
        size_bytes += self._answer_bytes
        held_bytes = self._held_bytes + size_bytes
        ring.append((seq, _now(), request_id, number, row, answer, size_bytes))
        while len(ring) > self._most_rows or held_bytes > self._ring_bytes:
            held_bytes -= ring.popleft()[-1]
        self._held_bytes = held_bytes

    def texts_bytes(self, row: msgspec.Struct) -> int:
        """Return what the texts of a row take: of all that it holds, they alone may be long."""
        values = (getattr(row, attribute) for attribute in self._attributes.values())
        return sum(getsizeof(value) for value in values if isinstance(value, str))

    async def pull(self, asked: Pull) -> bytes:
        """Remove what was read, do by the plan from now on, and return what there is, oldest first, as JSON."""
        read = asked.read.get(self._boot, 0)
        while self._ring and self._ring[0][0] <= read:
            self._held_bytes -= self._ring.popleft()[-1]
        self._follow(asked.plan)
        kept = [name for name in self._attributes if name not in self._plan.without]
        entries = await self._encoded(tuple(self._attributes[name] for name in kept))
        told = {
            "boot": self._boot,
            "digest": self._digest,
            "version": self._version,
            "seen": self._seen,
            "sampled": self._last,
            "features": kept,
        }
        return self._encode(told)[:-1] + b',"entries":[' + b",".join(entries) + b"]}"

    async def _encoded(self, attributes: Sequence[str]) -> list[bytes]:
        waiting = list(islice(self._ring, MOST_ROWS))
        encoded: list[bytes] = []
        size_bytes = 0
        for number, entry in enumerate(waiting):
            if size_bytes > PULL_BYTES:
                break
            if number and number % _STRETCH_ROWS == 0:
                await asyncio.sleep(0)
            seq, at, request_id, in_batch, row, answer, _ = entry
            values = [getattr(row, attribute) for attribute in attributes]
            encoded.append(self._encode((seq, at, request_id, in_batch, answer, values)))
            size_bytes += len(encoded[-1])
        return encoded

    def _follow(self, plan: Plan) -> None:
        if plan == self._plan:
            return
        fewer = set(plan.without) - set(self._plan.without)
        self._plan, self._rate, self._most_rows = plan, plan.rate, plan.rows
        self._hidden = tuple(self._attributes[name] for name in plan.without if name in self._attributes)
        if fewer or not plan.rate:
            # What may not be kept any more is not given out either.
            self._ring.clear()
            self._held_bytes = 0


class SampledBatch:
    """Notes the answered rows of one batch, each with the same chance."""

    def __init__(self, sampled: SampledRequests, request_id: str, rate: float, size_bytes: int) -> None:
        self._sampled, self._request_id, self._rate, self._size_bytes = sampled, request_id, rate, size_bytes
        self._noted = 0
        self._next = self._gap() if rate else math.inf

    def note(self, rows: Sequence[msgspec.Struct], answers: Sequence[AnyAnswer]) -> None:
        """Note the next rows with their answers."""
        self._sampled.count(len(rows))
        for position in self._picked(len(rows)):
            number = self._noted + position
            row = rows[position]
            # Its beginning says little of a batch whose rows are of unlike length.
            size_bytes = max(self._size_bytes, self._sampled.texts_bytes(row))
            self._sampled.keep(self._request_id, number, row, answers[position], size_bytes)
        self._noted += len(rows)

    def _picked(self, rows: int) -> Iterator[int]:
        while self._next < self._noted + rows:
            yield int(self._next) - self._noted
            self._next += 1 + self._gap()

    def _gap(self) -> int:
        """Return how many rows to pass over: geometric, so that a long batch costs by what is kept of it."""
        if self._rate >= 1:
            return 0
        return int(math.log(1 - random.random()) / math.log1p(-self._rate))
