"""A version's way into production: its states, what an approval covers, and where a rollback goes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from pipelines.domain.policy import Policy
from pipelines.domain.release import Environment
from pipelines.domain.report import Report
from pipelines.domain.verdict import Verdict, overall
from pipelines.domain.version import Lifecycle
from pipelines.errors import NoRollbackTarget, UsageError


class RunState(StrEnum):
    """How far a requested piece of work is; DONE and STOPPED are final."""

    REQUESTED = "requested"
    RUNNING = "running"
    WAITING = "waiting"
    APPROVED = "approved"
    DONE = "done"
    STOPPED = "stopped"

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return self in (RunState.DONE, RunState.STOPPED)


class ReleaseState(StrEnum):
    """What became of a release in a live slot; UNDOING came to nothing, and may still stand half-done."""

    STARTING = "starting"
    SERVING = "serving"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back"
    UNDOING = "undoing"
    FAILED = "failed"

    @property
    def half_done(self) -> bool:
        """Whether target or alias may say something else than the record because of it."""
        return self in (ReleaseState.STARTING, ReleaseState.UNDOING)


@dataclass(frozen=True)
class Evidence:
    """Exactly what a person approves; change one field and the approval is void."""

    model: str
    version: str
    environment: str
    bundle_digest: str
    report_digest: str
    policy_digest: str
    champion_release: str | None


@dataclass(frozen=True)
class Override:
    """Named gates that a person accepts as not passed, and why."""

    gates: frozenset[str]
    reason: str

    @classmethod
    def recorded(cls, gates: Iterable[str], reason: str | None) -> "Override | None":
        """Return the override of a record, None when it has none."""
        return cls(frozenset(gates), reason) if reason else None

    @classmethod
    def parse(cls, gates: Iterable[str], reason: str | None, *, overridable: frozenset[str]) -> "Override | None":
        """Return the override asked for, None when neither part is given; raise UsageError when it can't be."""
        named = frozenset(gate.strip() for gate in gates if gate.strip())
        if not named and not reason:
            return None
        if not named or not (reason or "").strip():
            raise UsageError(
                "an override needs its gates and a reason",
                next='make promote VERSION=3 OVERRIDE="why" GATES=accuracy',
            )
        forbidden = sorted(named - overridable)
        if forbidden:
            raise UsageError(
                f"gate {forbidden[0][:40]!r} can't be overridden",
                next="can be: " + ", ".join(sorted(overridable)),
            )
        return cls(named, str(reason).strip())


@dataclass(frozen=True)
class PastRelease:
    """One row of an environment's history; `restores` names the release that a rollback went back to."""

    id: str
    version: str
    bundle_digest: str
    state: ReleaseState
    restores: str | None


def void_reasons(approved: Evidence, now: Evidence) -> tuple[str, ...]:
    """Return what differs between the evidence approved and the evidence that holds now."""
    return tuple(
        f"{field.name.replace('_', ' ')} was {getattr(approved, field.name)} and is {getattr(now, field.name)}"
        for field in fields(Evidence)
        if getattr(approved, field.name) != getattr(now, field.name)
    )


def report_verdict(report: Report, override: Override | None) -> Verdict:
    """Return the verdict of a report's gates, leaving out those that `override` names."""
    return overall(report.gates, overridden=override.gates if override else frozenset())


def profile_refusal(report: Report, policy: Policy, environment: Environment) -> str | None:
    """Return why a report of its profile may not carry a version into `environment`, or None."""
    accepted = policy.production.accepts
    if environment is Environment.PRODUCTION and report.profile not in accepted:
        return f"the report is {report.profile} evidence, and the policy accepts {', '.join(accepted)} only"
    return None


def rollback_target(history: Sequence[PastRelease]) -> PastRelease:
    """Return the good release that served before the current one.

    `history` is an environment's releases from the oldest to the newest. A release that was rolled
    back or failed is never a target, nor is an earlier one of a version whose last release was rolled
    back; after a rollback the search starts at the release restored. A record that says it restores what restores it
    ends the search for that: its witnesses are for whoever releases it.
    Raises NoRollbackTarget.
    """
    by_id = {release.id: place for place, release in enumerate(history)}
    current = next((r for r in reversed(history) if r.state is ReleaseState.SERVING), None)
    if current is None:
        raise NoRollbackTarget("nothing is released there", next='promote a version first: "make promote VERSION=n"')
    origin = _restored(current, history, by_id)
    served = (ReleaseState.SERVING, ReleaseState.SUPERSEDED, ReleaseState.ROLLED_BACK)
    last_state = {release.version: release.state for release in history if release.state in served}
    for release in reversed(history[: by_id[origin.id]]):
        if release.state is last_state.get(release.version) is ReleaseState.SUPERSEDED:
            root = _restored(release, history, by_id)
            if root.state is ReleaseState.SUPERSEDED:
                return root
    raise NoRollbackTarget(
        f"no good release before version {current.version}",
        next='promote another version: "make promote VERSION=n"',
    )


def _restored(release: PastRelease, history: Sequence[PastRelease], by_id: Mapping[str, int]) -> PastRelease:
    """Return the release that a chain of rollbacks restored, itself where it restores none."""
    seen = {release.id}
    while release.restores is not None and release.restores in by_id and release.restores not in seen:
        seen.add(release.restores)
        release = history[by_id[release.restores]]
    return release


def lifecycle(history: Sequence[tuple[Environment, str, ReleaseState]], version: str) -> Lifecycle:
    """Return what people should read on `version`, from (environment, version, state) of all releases.

    What serves production counts first; then a rollback, until the version is staged or served production
    anew; then staging.
    """
    mine = [(environment, state) for environment, released, state in history if released == version]
    if (Environment.PRODUCTION, ReleaseState.SERVING) in mine:
        return Lifecycle.PRODUCTION
    past = [pair for pair in mine if pair[1] not in (ReleaseState.UNDOING, ReleaseState.FAILED)]
    rolled_back = (Environment.PRODUCTION, ReleaseState.ROLLED_BACK)
    staged = (Environment.STAGING, ReleaseState.SERVING)
    telling = (rolled_back, staged, (Environment.PRODUCTION, ReleaseState.SUPERSEDED))
    if next((pair for pair in reversed(past) if pair in telling), None) == rolled_back:
        return Lifecycle.ROLLED_BACK
    if staged in past:
        return Lifecycle.STAGING
    was_in_production = any(environment is Environment.PRODUCTION for environment, _ in past)
    return Lifecycle.ARCHIVED if was_in_production else Lifecycle.CANDIDATE
