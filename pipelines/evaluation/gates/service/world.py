"""What gates measure of a version that runs in staging: where it is reached, and what may be done to it there."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.domain.bundle import Feature, Schema
from pipelines.domain.description import Description, Golden, Output, Task
from pipelines.domain.records import ReleaseRecord
from pipelines.domain.release import Release
from pipelines.domain.sections import Profile
from pipelines.evaluation.gates.gate import Need
from pipelines.live.recorded import Recorded
from pipelines.ports import LoadRunner, ServiceProbe, never_ending


@dataclass(frozen=True)
class Beside:
    """The champion that serves beside the version while both are loaded, with requests that both take."""

    url: str
    version: str
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class Shadowed:
    """What production was asked and what the champion answered, of which the version is asked the same.

    `features` are those of the champion, `breaking` says that the version declares to break for its clients, and
    `alike` that it answers the same task with the same classes.
    """

    recorded: Recorded
    features: tuple[Feature, ...]
    breaking: bool
    alike: bool = True

    @classmethod
    def of(cls, recorded: Recorded, version: Description, champion: Description) -> "Shadowed":
        """Return it for a version and the champion whose requests were recorded."""
        ours, theirs = Schema.of(version), Schema.of(champion)
        alike = version.task is champion.task and ours.answers == theirs.answers
        return cls(recorded, theirs.features, version.provenance.breaking is not None, alike)


@dataclass(frozen=True)
class Service:
    """A release in staging's trial slot, reached at `url`, with the golden rows of its bundle.

    `rows` are requests that its schema takes, made of the evaluation set, which may leave out what `nullable`
    names.
    `first_request_ms` is how long the first request after the deploy took, infinite where it was not answered.
    `check` raises what ends the measuring.
    `start_s` is how long it took from the order to start it until every replica was ready, and `production` where what
    serves production is reached, None where nothing does.
    `unlike` says that no request is one to the champion as well, which then can't be loaded beside it.
    `shadowed` gives the newest sampled requests of the champion, so many at most, and None where there is no champion;
    `features` are those of the version, `task` and `output` say what it answers.
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
    nullable: frozenset[str] = frozenset()
    first_request_ms: float | None = None
    start_s: float | None = None
    production: str | None = None
    champion: Beside | None = None
    unlike: bool = False
    check: Callable[[], None] = never_ending
    features: tuple[Feature, ...] = ()
    task: Task = Task.BINARY
    output: Output | None = None
    shadowed: Callable[[int], Shadowed | None] = lambda rows: None

    @property
    def present(self) -> frozenset[Need]:
        """What there is to measure with."""
        found = {Need.MODEL, Need.EVALUATION_SET, Need.SERVICE}
        found |= {Need.CHAMPION} if self.champion else set()
        found |= {Need.PRODUCTION} if self.production else set()
        return frozenset(found)
