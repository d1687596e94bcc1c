"""What a slot is told to serve, and what its replicas say they serve."""

from dataclasses import dataclass
from enum import StrEnum


class Environment(StrEnum):
    """Where releases run."""

    STAGING = "staging"
    PRODUCTION = "production"

    @property
    def stage(self) -> str:
        """The word people read in `/health`."""
        return self.value.capitalize()


# How many replicas the live slot has, unless the operator of the installation chooses otherwise.
REPLICAS = {Environment.STAGING: 1, Environment.PRODUCTION: 2}


class Slot(StrEnum):
    """A place for one release of an endpoint; `live` serves its port."""

    LIVE = "live"
    TRIAL = "trial"
    BASELINE = "baseline"


@dataclass(frozen=True)
class Endpoint:
    """A model in an environment: it has a port, a lease and slots of its own."""

    model: str
    environment: Environment

    def __str__(self) -> str:
        return f"{self.model} in {self.environment}"


@dataclass(frozen=True)
class Release:
    """A bundle deployed as a version: `id` is Slipway's own, `bundle_digest` is `sha256:<hex>`."""

    id: str
    model: str
    environment: Environment
    version: str
    bundle_digest: str

    @property
    def endpoint(self) -> Endpoint:
        """Where it runs."""
        return Endpoint(self.model, self.environment)


@dataclass(frozen=True)
class RunsFrom:
    """The image of a release, as `name@sha256:<hex>`, and that of the app in it; None where that is not known."""

    image: str
    app_image: str | None = None


@dataclass(frozen=True)
class Replica:
    """One serving process as it answered on its own address; None means it did not answer."""

    name: str
    digest: str | None
    version: str | None
    ready: bool
    restarts: int
    pid: int | None


class Phase(StrEnum):
    """How far a slot is with the release it was last told to serve."""

    EMPTY = "empty"
    STARTING = "starting"
    SETTLED = "settled"
    FAILED = "failed"


@dataclass(frozen=True)
class SlotState:
    """A slot as its target sees it.

    `release` serves now, `wanted_id` names the release last asked for. FAILED means that the release
    asked for did not come up and `release` goes on serving; `failure` says why and `last_log` holds
    the last lines that the failed replicas wrote. It is its own failure where a replica of it ran, and ended or
    never became ready: that the place had no room or no image for it says nothing of the release.
    """

    slot: Slot
    phase: Phase
    release: Release | None
    wanted_id: str | None
    url: str | None
    replicas: tuple[Replica, ...]
    failure: str | None = None
    last_log: tuple[str, ...] = ()
    own_failure: bool = False

    def serves(self, release: Release) -> bool:
        """Whether every replica is ready and says it serves exactly `release`."""
        return (
            self.phase is Phase.SETTLED
            and self.wanted_id == release.id
            and bool(self.replicas)
            and all(
                replica.ready and replica.digest == release.bundle_digest and replica.version == release.version
                for replica in self.replicas
            )
        )
