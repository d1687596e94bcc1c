"""Requests of production with the answers that they had, as a version is asked them again."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.disk import write_whole
from pipelines.domain.bundle import Schema
from pipelines.domain.description import Description
from pipelines.domain.release import Environment
from pipelines.live.request_files import PREDICTION, SCORES, RequestFiles, feature_names, frame_of


@dataclass(frozen=True)
class Recorded:
    """The newest sampled requests of a version, and what it answered to them.

    `predictions` are labels as texts, or numbers; `scores` are P(positive), P of each class in the order of their
    texts, or nothing. `hidden` are the features of which the sample keeps nothing: the rows have none of these.
    """

    version: str
    rows: Sequence[dict[str, Any]]
    predictions: Sequence[str | float]
    scores: Sequence[Sequence[float]]
    hidden: Sequence[str] = ()


def recorded_requests(home: Path, description: Description, version: str, *, rows: int) -> Recorded:
    """Return what was sampled of a version in production, at most so many rows; `description` is of its bundle."""
    from pipelines.packaging.served import request_value

    features = Schema.of(description).features
    table = RequestFiles(home).newest(description.model, Environment.PRODUCTION, version, rows)
    if table is None:
        return Recorded(version, (), (), ())
    kept = set(feature_names(table))
    frame = frame_of(table)
    shown = [feature for feature in features if feature.name in kept]
    columns = [[request_value(feature, value) for value in frame[feature.name]] for feature in shown]
    names = [feature.name for feature in shown]
    requests = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    hidden = tuple(feature.name for feature in features if feature.name not in kept)
    return Recorded(version, requests, table[PREDICTION].to_pylist(), table[SCORES].to_pylist(), hidden)


def kept_recorded(path: Path, make: Callable[[], Recorded]) -> Recorded:
    """Return what an earlier call kept at `path`; else make it and keep it, so that a repeated step asks the same."""
    if path.exists():
        return Recorded(**json.loads(path.read_bytes()))
    made = make()
    write_whole(path, json.dumps(asdict(made)))
    return made
