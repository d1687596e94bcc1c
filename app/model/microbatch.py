"""Scores the rows that arrive within one turn of the event loop in one run of the model.

A run costs mostly the same for one row as for sixteen, so this is what busy replicas gain from most.
"""

import asyncio

import msgspec

from app.model.bundle import Answer
from app.model.scoring import Scorer


class MicroBatcher:
    """Collects rows until the event loop has run everything that was ready; one event loop only."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self._waiting: list[tuple[msgspec.Struct, asyncio.Future[Answer]]] = []

    async def score(self, row: msgspec.Struct) -> Answer:
        """Return the answer to one row; raises as `Scorer.score_row` does, for this row alone."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((row, future))
        return await future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            answers = self.scorer.score_rows([row for row, _ in waiting]) if len(waiting) > 1 else None
        except Exception:  # whatever one row has caused must not reach the others, nor leave them waiting
            answers = None
        for position, (row, future) in enumerate(waiting):
            if future.done():
                continue
            try:
                future.set_result(answers[position] if answers else self.scorer.score_row(row))
            except Exception as error:  # raised where the row's request is answered
                future.set_exception(error)
