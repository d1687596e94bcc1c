"""Looks at how far what production is asked is from what its version was trained on, beside all other work.

It warns and stops nothing: it takes no lease, and gives way while any version is measured.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pipelines.disk import remove_tree
from pipelines.domain.description import Description
from pipelines.domain.events import EventKind
from pipelines.domain.live_drift import MOST_SHOWN, Glance, Limit, Look, Moves, NotMeasured, Seen, judge
from pipelines.domain.policy import Policy
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation, LiveDrift, PinnedVersion, ReleaseRecord
from pipelines.domain.release import Environment
from pipelines.domain.texts import one_line
from pipelines.errors import DatabaseUnavailable, LostLease, SlipwayError
from pipelines.evaluation.gates.data.drift import DRIFT
from pipelines.evaluation.live_drift import LiveDriftTask, ask_live_drift
from pipelines.evaluation.subject import kept_evaluation_set, kept_reference
from pipelines.executor.beside import LOOK_S, look_after
from pipelines.governance.live_drift import live_drift, look_subject
from pipelines.live.request_files import RequestFiles, Spread, feature_names, write_features
from pipelines.ports import JobBounds, Records
from pipelines.releases.leases import confirm_leader
from pipelines.releases.services import Services

# A look that failed by a bug is tried again so late.
RETRY_S = 60.0
# So many glances are kept at most, and for as many days as requests are.
MOST_KEPT = 500
# Who has too few rows may soon have enough: the next look comes so many times sooner.
_SOONER = 12
_PRODUCTION = Environment.PRODUCTION
_FILES = "work"

log = logging.getLogger("slipway.drift")


def watch_drift(services: Services, stop: threading.Event) -> None:
    """Look at every model when it is time, or when somebody asks, until `stop`."""
    look_after(services, stop, DriftEye, log, "measure the drift")


class _GaveWay(Exception):
    """A version is measured now."""


class DriftEye:
    """Looks at one model."""

    def __init__(self, services: Services, model: str) -> None:
        self._services, self._model = services, model
        self._looked_at: float | None = None
        self._resume_at = self._checked_at = 0.0
        self._told = 0

    def look(self) -> None:
        """Measure, if somebody asks or it is time, and no version is measured; raise LostLease."""
        services = self._services
        policy, known = services.policy(self._model), live_drift(services.records, self._model)
        release = services.serving(self._model, _PRODUCTION)
        wanted = known.asked > known.answered
        if time.monotonic() < self._resume_at or not (wanted or self._is_due(policy, known, release)):
            return
        if busy := _measured_now(services.records):
            self._tell_waiting(known, busy)
            return
        self._resume_at = time.monotonic() + RETRY_S
        try:
            self._keep(self._made(policy, release), policy, answered=known.asked)
            self._looked_at = time.monotonic()
        except _GaveWay:
            log.info("the drift of %s is measured once no version is", self._model)
        self._resume_at = 0.0

    def _is_due(self, policy: Policy, known: LiveDrift, release: ReleaseRecord | None) -> bool:
        every_s = policy.requests.drift.every_s
        if not every_s or release is None:
            return False
        last = Look.model_validate(known.look) if known.look else None
        if last is None or last.version != release.version:
            return True
        if self._looked_at is None:
            age = datetime.fromisoformat(self._services.now()) - datetime.fromisoformat(last.at)
            self._looked_at = time.monotonic() - max(0.0, age.total_seconds())
        pause_s = every_s / _SOONER if last.seen is Seen.INCONCLUSIVE else every_s
        return time.monotonic() - self._looked_at >= pause_s

    def _made(self, policy: Policy, release: ReleaseRecord | None) -> Look:
        """Return what is found; what can't be measured is found as well."""
        asked = policy.requests.drift
        about: dict[str, Any] = {"at": self._services.now(), "hours": asked.hours, "rows_needed": asked.minimum_rows}
        if release is None:
            return Look(**about, version=None, seen=Seen.INCONCLUSIVE, why="nothing is in production")
        about["version"] = release.version
        try:
            return self._measured(policy, release, about)
        except (LostLease, DatabaseUnavailable):
            raise
        except (SlipwayError, OSError) as error:
            return Look(**about, seen=Seen.ERROR, why=one_line(str(error)))

    def _measured(self, policy: Policy, release: ReleaseRecord, about: dict[str, Any]) -> Look:
        from pipelines.evaluation.drift import MOST_ROWS

        services, needed = self._services, int(about["rows_needed"])
        since = datetime.fromisoformat(about["at"]) - timedelta(hours=about["hours"])
        files = RequestFiles(services.workdir)
        spread = files.spread(self._model, _PRODUCTION, release.version, since, MOST_ROWS)
        limits = DRIFT.limits_of(policy)
        about |= {"limit": Limit(distance=limits.distance, auc=limits.auc)}
        if spread is None or spread.table.num_rows < needed:
            rows = spread.table.num_rows if spread else 0
            why = f"{rows:,} rows that were asked in {about['hours']:g} hours are kept; {needed:,} are needed"
            return Look(**about, rows_now=rows, rows_kept=rows, seen=Seen.INCONCLUSIVE, why=why)
        features = Description.read(services.bundles.body(release.bundle_digest)).features
        sampled = set(feature_names(spread.table))
        task = LiveDriftTask(
            features=tuple(each for each in features if each.name in sampled),
            judge_times=limits.times == "judge",
            minimum_rows=needed,
        )
        against, moves = self._asked(policy, release, task, spread)
        seen, why, drifted = judge(moves, about["limit"], against=against, rows_needed=needed)
        hidden = [each.name for each in features if each.name not in sampled]
        return Look(
            **about,
            seen=seen,
            why=one_line(why),
            against=against,
            rows_before=moves.rows_before,
            rows_now=moves.rows_now,
            rows_kept=spread.of,
            drifted=drifted,
            together=moves.together,
            features=moves.features[:MOST_SHOWN],
            of_features=len(moves.features),
            not_measured=(
                *(NotMeasured(name=name, why="not sampled") for name in hidden),
                *(NotMeasured(name=name, why=f"not in {against}, or otherwise") for name in moves.left_out),
            ),
        )

    def _asked(self, policy: Policy, release: ReleaseRecord, task: LiveDriftTask, spread: Spread) -> tuple[str, Moves]:
        """Have a confined job compare the rows; return with what, and its answer."""
        services, limits = self._services, policy.evaluation
        bounds = JobBounds(limits.job_s, limits.job_memory_mb)

        def run(task: bytes, files: Mapping[str, Path]) -> bytes:
            return services.jobs.run(task, files, bounds, check=self._give_way)

        place = services.workdir / _FILES / f"live-drift-{self._model}"
        place.mkdir(parents=True, exist_ok=True)
        try:
            asked = place / "asked.parquet"
            write_features(spread.table, asked)
            against, trained_on = _trained_on(services, release, place)
            return against, ask_live_drift(run, task, trained_on=trained_on, asked=asked)
        finally:
            remove_tree(place)

    def _give_way(self) -> None:
        """End the job when a version is to be measured."""
        if time.monotonic() < self._checked_at + LOOK_S:
            return
        self._checked_at = time.monotonic()
        if _measured_now(self._services.records):
            raise _GaveWay

    def _tell_waiting(self, known: LiveDrift, busy: str) -> None:
        """Tell who waits what for, once."""
        for number in range(max(self._told, known.answered) + 1, known.asked + 1):
            self._services.note(look_subject(known, number), "waiting", f"{busy} is measured first")
            self._told = number

    def _keep(self, look: Look, policy: Policy, *, answered: int) -> None:
        """Record a look; audit and tell only what has changed."""
        with self._services.records.write() as transaction:
            confirm_leader(self._services, within=transaction)
            known = live_drift(transaction, self._model)
            decided = look.seen in (Seen.DRIFTED, Seen.ALIKE)
            drifted = look.seen is Seen.DRIFTED if decided else known.drifted
            kept = replace(known, look=look.as_json(), drifted=drifted, answered=answered)
            transaction.put(replace(kept, history=_history(known, look, policy.requests.days)))
            if drifted != known.drifted:
                detail = {"version": look.version, "why": look.why}
                told = {"drifted": drifted, **detail}
                transaction.audit("executor", "live.drift", "outcome", subject=known.id, detail=told)
                kind = EventKind.LIVE_DRIFT_APPEARED if drifted else EventKind.LIVE_DRIFT_ENDED
                transaction.emit(kind, subject=known.id, model=self._model, detail=detail)


def _measured_now(records: Records) -> str:
    """Return an evaluation that goes on or is about to, "" without any."""
    found = [each for state in (RunState.RUNNING, RunState.REQUESTED) for each in records.find(Evaluation, state=state)]
    return found[0].id if found else ""


def _trained_on(services: Services, release: ReleaseRecord, place: Path) -> tuple[str, Path]:
    """Return the rows that a version was trained on, or else those that it was judged by, and what they are."""
    reference = kept_reference(services, release.bundle_digest, place)
    if reference:
        return "its training", reference
    pin = services.records.get(PinnedVersion, f"{release.model}/{release.version}")
    return "the rows that it was judged by", kept_evaluation_set(services, pin.evalset_digest)


def _history(known: LiveDrift, look: Look, days: float) -> list[dict[str, Any]]:
    """Return the glances that are kept, the look's the last; of a wait for rows the last one is enough."""
    since = datetime.fromisoformat(look.at) - timedelta(days=days)
    glance = Glance.of(look)
    before = [each for each in known.history if datetime.fromisoformat(each["at"]) >= since]
    waits = {"version": look.version, "seen": Seen.INCONCLUSIVE.value}
    if before and look.seen is Seen.INCONCLUSIVE and waits.items() <= before[-1].items():
        before.pop()
    return [*before, glance.as_json()][-MOST_KEPT:]
