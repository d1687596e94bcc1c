"""What Slipway remembers: one frozen record a row, keyed by (model, environment) from the start.

Times are ISO 8601 UTC text; they inform and expire, but never order (ids and `seq` do).
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pipelines.domain.promotion import Override, ReleaseState, RunState
from pipelines.domain.release import Environment, Release


class ModelState(StrEnum):
    """How an installation has a further model: one that is REMOVING serves until its slots are drained."""

    SERVED = "served"
    REMOVING = "removing"
    ARCHIVED = "archived"


@dataclass(frozen=True)
class FurtherModel:
    """A model beside the default one; `id` is its name. Once ARCHIVED, its history stays."""

    id: str
    added_by: str
    added_at: str
    state: ModelState = ModelState.SERVED
    archived_at: str | None = None


@dataclass(frozen=True)
class PinnedVersion:
    """The digest a version had when it was first seen; it never changes afterwards."""

    id: str
    model: str
    version: str
    bundle_digest: str
    evalset_digest: str
    pinned_at: str


class _Overridable:
    """What may be asked for although named gates did not pass."""

    override_gates: list[str]
    override_reason: str | None

    @property
    def override(self) -> Override | None:
        """The gates that a person accepted as not passed."""
        return Override.recorded(self.override_gates, self.override_reason)


@dataclass(frozen=True)
class Evaluation(_Overridable):
    """One measuring of a version, from packaging to its report.

    `begun` says from when its deadline counts: `at`, and `boot_s` seconds after its machine's start `boot_id`.
    """

    id: str
    model: str
    version: str
    requested_by: str
    created_at: str
    state: RunState = RunState.REQUESTED
    override_gates: list[str] = field(default_factory=list)
    override_reason: str | None = None
    bundle_digest: str | None = None
    report: dict[str, Any] | None = None
    report_digest: str | None = None
    verdict: str | None = None
    error: dict[str, Any] | None = None
    ended_at: str | None = None
    cancel_asked_by: str | None = None
    begun: dict[str, Any] | None = None


@dataclass(frozen=True)
class Promotion(_Overridable):
    """A request for production: it waits for its evaluation, then for people, then is released."""

    id: str
    model: str
    version: str
    environment: Environment
    requested_by: str
    created_at: str
    evaluation_id: str
    state: RunState = RunState.REQUESTED
    override_gates: list[str] = field(default_factory=list)
    override_reason: str | None = None
    measured_before: bool = False
    expires_at: str | None = None
    release_id: str | None = None
    archived: str | None = None
    error: dict[str, Any] | None = None
    ended_at: str | None = None


@dataclass(frozen=True)
class Approval:
    """A person's yes or no to one evidence."""

    id: str
    promotion_id: str
    person: str
    approved: bool
    reason: str
    evidence: dict[str, Any]
    at: str


@dataclass(frozen=True)
class Rollback:
    """A request to go back from the release `replaces` to the good one before it.

    `during` names the release that was half-done when this was asked for: whoever asked may have meant that one.
    """

    id: str
    model: str
    environment: Environment
    requested_by: str
    created_at: str
    replaces: str | None = None
    state: RunState = RunState.REQUESTED
    release_id: str | None = None
    version: str | None = None
    replaced: str | None = None
    error: dict[str, Any] | None = None
    ended_at: str | None = None
    during: str | None = None


@dataclass(frozen=True)
class ReleaseRecord:
    """A release of an environment's live slot, with the evidence it was released on."""

    id: str
    model: str
    environment: Environment
    version: str
    bundle_digest: str
    kind: str
    change_id: str
    actor: str
    created_at: str
    state: ReleaseState = ReleaseState.STARTING
    restores: str | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    serving_at: str | None = None
    ended_at: str | None = None

    @property
    def release(self) -> Release:
        """What a target is told to serve."""
        return Release(self.id, self.model, self.environment, self.version, self.bundle_digest)


@dataclass(frozen=True)
class PolicyChange:
    """A policy as it was asked for; of a model the newest one DONE is in force.

    `model` is None where it was asked for before there was more than one: it holds for any.
    """

    id: str
    digest: str
    body: dict[str, Any]
    applied_by: str
    created_at: str
    state: RunState = RunState.REQUESTED
    error: dict[str, Any] | None = None
    ended_at: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class AddedSet:
    """An evaluation set that a person has added, beside those that versions bring; its file is in the run `run_id`.

    Which of the model's sets it is, and how many rows it has, is known once it is DONE.
    """

    id: str
    model: str
    name: str
    digest: str
    run_id: str
    requested_by: str
    created_at: str
    state: RunState = RunState.REQUESTED
    number: int | None = None
    rows: int | None = None
    error: dict[str, Any] | None = None
    ended_at: str | None = None


@dataclass(frozen=True)
class Maintenance:
    """A change of the installation itself by the verb `up` or `down`: while it is RUNNING, nothing is released.

    It holds the leases of all environments from `held_at` on; from `end_asked_at` on they are to be given back. `begun`
    says from when its limit counts, as that of an evaluation: anew once it holds them.
    """

    id: str
    model: str
    verb: str
    requested_by: str
    created_at: str
    state: RunState = RunState.REQUESTED
    held_at: str | None = None
    end_asked_at: str | None = None
    error: dict[str, Any] | None = None
    ended_at: str | None = None
    begun: dict[str, Any] | None = None


@dataclass(frozen=True)
class Lease:
    """Who may change an environment; `epoch` grows with every holder and every take-over."""

    id: str
    holder: str | None
    epoch: int
    executor: str
    acquired_at: str


@dataclass(frozen=True)
class LeaderLease:
    """The one executor, a process of `host`; `id` is always `executor`, `left_at` says when it stopped in order.

    `beat_s` is its last sign of life and `process_started` the start of its process, both by the clock of its machine's
    start `boot_id`, which nobody can set.
    """

    id: str
    executor: str
    pid: int
    process_started: float
    heartbeat_at: str
    host: str | None = None
    left_at: str | None = None
    boot_id: str | None = None
    beat_s: float | None = None


@dataclass(frozen=True)
class Subscriber:
    """Who reads the events; `id` is its name, `seq` the number of the last one that it has dealt with."""

    id: str
    seq: int


@dataclass(frozen=True)
class Observation:
    """What the executor last saw an environment serve, beside what the records and the alias say."""

    id: str
    recorded: str | None
    alias: str | None
    replicas: list[dict[str, Any]]
    drift: str | None
    at: str


@dataclass(frozen=True)
class RequestLog:
    """How far the sampled requests of an endpoint were read; `id` is `MODEL/ENVIRONMENT`.

    `output` says what its release answers: `task`, and the `classes`. `replicas` are those that were asked, by what
    they call themselves: what they had seen and sampled, and up to which number that was read. One that is silent is
    `given_up`, with as many sampled rows as it is taken to hold.
    """

    id: str
    model: str
    environment: Environment
    output: dict[str, Any]
    replicas: dict[str, Any]
    at: str


@dataclass(frozen=True)
class LiveWindow:
    """What a version was asked on a day in an environment; `id` is `MODEL/ENVIRONMENT/DAY/VERSION`.

    Of the rows that it answered (`seen`), `kept` were sampled and read, and `dropped` were sampled and are lost; `lost`
    replicas took the rest of theirs with them. `scores` is how what was answered is distributed, `quality` what is
    known of it by labels.
    """

    id: str
    model: str
    environment: Environment
    version: str
    day: str
    seen: int
    kept: int
    dropped: int
    lost: int
    scores: dict[str, Any]
    at: str
    quality: dict[str, Any] | None = None


@dataclass(frozen=True)
class LiveDrift:
    """How far what an environment is asked is from what its version was trained on; `id` is `MODEL/ENVIRONMENT`.

    `look` is the last look in full, None before the first, and `history` a glance of it and of those before, oldest
    first. `drifted` says what the last one found that had enough rows. People have asked for `asked` looks, and so many
    are `answered`.
    """

    id: str
    model: str
    environment: Environment
    asked: int = 0
    answered: int = 0
    drifted: bool = False
    look: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Feedback:
    """Labels of requests as a person sent them, until the executor has put them beside the requests.

    `digest` is that of the labels; `labels` are empty once they are kept elsewhere.
    """

    id: str
    model: str
    person: str
    digest: str
    count: int
    labels: list[dict[str, Any]]
    created_at: str
    state: RunState = RunState.REQUESTED
    ended_at: str | None = None


Record = (
    FurtherModel
    | PinnedVersion
    | Evaluation
    | Promotion
    | Approval
    | Rollback
    | ReleaseRecord
    | PolicyChange
    | AddedSet
    | Maintenance
    | Lease
    | LeaderLease
    | Subscriber
    | Observation
    | RequestLog
    | LiveWindow
    | LiveDrift
    | Feedback
)
