"""What gates measure of a version that runs in staging: where it is reached, and what may be done to it there."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.domain.description import Golden
from pipelines.domain.records import ReleaseRecord
from pipelines.domain.release import Release
from pipelines.domain.sections import Profile
from pipelines.evaluation.gates.gate import Need
from pipelines.ports import LoadRunner, ServiceProbe, never_ending


@dataclass(frozen=True)
class Beside:
    """The champion that serves beside the version while both are loaded."""

    url: str
    version: str


@dataclass(frozen=True)
class Service:
    """A release in staging's trial slot, reached at `url`, with the golden rows of its bundle.

    `rows` are requests that its schema takes, made of the evaluation set.
    `first_request_ms` is how long the first request after the deploy took, infinite where it was not answered.
    `check` raises what ends the measuring.
    `releases` reads all releases ever recorded; what a gate leaves for people goes into `workdir`.
    """

    url: str
    release: Release
    golden: Golden
    profile: Profile
    rows: list[dict[str, Any]]
    probe: ServiceProbe
    loads: LoadRunner
    releases: Callable[[], list[ReleaseRecord]]
    workdir: Path
    first_request_ms: float | None = None
    champion: Beside | None = None
    check: Callable[[], None] = never_ending

    @property
    def present(self) -> frozenset[Need]:
        """What there is to measure with."""
        found = {Need.MODEL, Need.EVALUATION_SET, Need.SERVICE}
        return frozenset(found | {Need.CHAMPION} if self.champion else found)
