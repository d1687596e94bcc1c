"""Scores what waits in short stretches: single rows first and together, pieces of batches where they leave room.

A run costs mostly the same for one row as for sixteen, so this is what busy replicas gain from most. During a stretch
nothing else goes on in the replica, not even a health check: so none takes much longer than a millisecond, unless a
single row does.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from app.errors import Busy
from app.model.description import AnyAnswer
from app.model.scoring import Scorer

T = TypeVar("T")
# While the first of those that wait has seen so much work done before its own, another is refused. Work is processor
# time: a replica that gets no processor for a moment has a moment's rows waiting, and answers them in no time.
MAX_AHEAD_S = 0.5
_STRETCH_S = 0.0005
_FIRST_ROWS, _MOST_ROWS = 8, 512
# So many turns of the event loop a piece of a batch gives way to single rows.
_GIVES_WAY = 8


class MicroBatcher:
    """Collects rows until the event loop has run everything that was ready; one event loop only."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self._waiting: list[tuple[msgspec.Struct, asyncio.Future[AnyAnswer], float]] = []
        self._rows_a_stretch = _FIRST_ROWS
        self._single_rows = 0
        self._turn = asyncio.Lock()

    async def score(self, row: msgspec.Struct) -> AnyAnswer:
        """Return the answer to one row; raises as `Scorer.score_row` does, for this row alone, or Busy."""
        loop = asyncio.get_running_loop()
        worked_s = time.thread_time()
        if not self._waiting:
            loop.call_soon(self._flush)
        elif len(self._waiting) > self._rows_a_stretch and worked_s - self._waiting[0][2] > MAX_AHEAD_S:
            raise Busy("more rows are waiting than the model can answer in time")
        future: asyncio.Future[AnyAnswer] = loop.create_future()
        self._waiting.append((row, future, worked_s))
        self._single_rows += 1
        try:
            return await future
        finally:
            self._single_rows -= 1

    async def score_some(self, rows: Sequence[msgspec.Struct], start: int) -> list[AnyAnswer]:
        """Return the answers to as many rows of a batch as fit a stretch; raises as `Scorer.score_rows` does."""
        piece = rows[start : start + self._rows_a_stretch]
        return await self.stretch(lambda: self._score_piece(piece))

    async def stretch(self, work: Callable[[], T]) -> T:
        """Return what a short piece of a batch's work gives, done in turn with other batches and after single rows."""
        async with self._turn:
            for _ in range(_GIVES_WAY):
                await asyncio.sleep(0)
                if not self._single_rows:
                    break
            return work()

    def _score_piece(self, rows: Sequence[msgspec.Struct]) -> list[AnyAnswer]:
        begun_s = time.thread_time()
        answers = self.scorer.score_rows(rows)
        self._learn(len(rows), time.thread_time() - begun_s)
        return answers

    def _flush(self) -> None:
        now, self._waiting = self._waiting[: self._rows_a_stretch], self._waiting[self._rows_a_stretch :]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        begun_s = time.thread_time()
        try:
            answers = self.scorer.score_rows([row for row, _, _ in now]) if len(now) > 1 else None
        except Exception:  # whatever one row has caused must not reach the others, nor leave them waiting
            answers = None
        for position, (row, future, _) in enumerate(now):
            if future.done():
                continue
            try:
                future.set_result(answers[position] if answers else self.scorer.score_row(row))
            except Exception as error:  # raised where the row's request is answered
                future.set_exception(error)
        self._learn(len(now), time.thread_time() - begun_s)

    def _learn(self, rows: int, seconds: float) -> None:
        """Fit the next stretch to what this one took."""
        if seconds > 2 * _STRETCH_S:
            self._rows_a_stretch = max(1, min(rows, self._rows_a_stretch) // 2)
        elif rows == self._rows_a_stretch and seconds < _STRETCH_S / 2:
            self._rows_a_stretch = min(_MOST_ROWS, 2 * rows)
