"""Replicas that sample their requests as the service does, without a process: the executor pulls from them."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec

from app.model.bundle import read_bundle
from app.model.sampling import Pull, SampledRequests
from app.model.scoring import load


class SampledReplica:
    """A replica of a bundle; `ask` answers a row and notes it, and `pull` is what the target reaches."""

    def __init__(self, bundle: tuple[Path, str], version: str) -> None:
        path, digest = bundle
        self.scorer = load(read_bundle(path, digest=digest))
        names, attributes = self.scorer.features, self.scorer.schema.attributes
        self.sampled = SampledRequests(names, attributes, digest=digest, version=version)
        self.questions: list[Any] = []

    def ask(self, request_id: str, row: dict[str, Any]) -> Any:
        """Answer a request of one row."""
        body = msgspec.json.encode(row)
        decoded = self.scorer.schema.decode_row(body)
        answer = self.scorer.score_row(decoded)
        self.sampled.note(request_id, decoded, answer, len(body))
        return answer

    def pull(self, question: bytes) -> bytes:
        """Answer what the executor asks."""
        self.questions.append(json.loads(question))
        return asyncio.run(self.sampled.pull(msgspec.json.decode(question, type=Pull)))
