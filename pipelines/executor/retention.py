"""Removes what nothing needs any more, by the policy's section `retention`: at the executor's start, once a day, asked.

A bundle is removed only while no work is under way, in the transaction that has seen so: nothing that needs it can
begin in between. What is removed is in one entry of the audit log a round. What is recorded and could not be removed
keeps nothing else waiting: a later round tries it again, and says nothing of it to the audit log once more.

Images that their registry does not let go are noted once and tried ever more seldom. Nobody who asked waits for images.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pipelines.domain.description import Description
from pipelines.domain.evalset import reference_name, training_rows_name
from pipelines.domain.events import EventKind
from pipelines.domain.policy import Policy, Retention
from pipelines.domain.promotion import RunState
from pipelines.domain.records import AddedSet, Evaluation, Lease, PinnedVersion, Promotion, ReleaseRecord, Subscriber
from pipelines.domain.retention import History, kept_bundles, kept_evaluation_sets
from pipelines.errors import DeployFailed, LostLease, SlipwayError, UsageError
from pipelines.governance import archiving
from pipelines.governance.archiving import SUBJECT, Archiving
from pipelines.governance.lineage import trace, untraced
from pipelines.governance.models import known_models
from pipelines.governance.standing import newest_policy
from pipelines.ports import Records, Transaction, WorkflowEngine
from pipelines.releases.leased import KINDS, work_of
from pipelines.releases.leases import confirm_leader
from pipelines.releases.services import Services

LOOK_S = 2.0
EVERY_S = 24 * 3600.0
# So soon it is tried again to remove what a round has left: bundles, while work was under way, and what resisted.
AGAIN_S = 60.0
# A round begins to discard images for so long.
IMAGES_S = 20.0
# So much of each kind is removed in a round; what is left then is the next round's.
ROUND = 100
ROUND_LINES = 10_000

# Below the home.
_SETS, _FILES = "evaluation-sets", "work"

log = logging.getLogger("slipway.retention")


@dataclass
class Removable:
    """What nothing needs any more: digests, names and ids, and how many lines of progress.

    `seen` is the number of the last event before it was looked for, `free` are all bundles that nothing needed then,
    those that are not stored any more among them.
    """

    bundles: list[str] = field(default_factory=list)
    evaluation_sets: list[str] = field(default_factory=list)
    work: list[str] = field(default_factory=list)
    journal: list[str] = field(default_factory=list)
    progress: int = 0
    seen: int = 0
    free: frozenset[str] = frozenset()

    @property
    def any(self) -> bool:
        """Whether there is something."""
        return any(self.as_dict().values())

    @property
    def full(self) -> bool:
        """Whether a round may have left something to the next one."""
        lists = (self.bundles, self.evaluation_sets, self.work, self.journal)
        return any(len(each) >= ROUND for each in lists) or self.progress >= ROUND_LINES

    def joined(self, more: "Removable") -> "Removable":
        """Return what both have."""
        mine, other = self.as_dict(), more.as_dict()
        return Removable(**{name: mine[name] + other[name] for name in mine})

    def as_dict(self) -> dict[str, Any]:
        """Return what people are told, and the audit log."""
        told = asdict(self)
        del told["seen"], told["free"]
        return told


def tend(
    records: Records, make_keeper: Callable[[], "Keeper"], chores: Callable[[], None], stop: threading.Event
) -> None:
    """Archive at the start, once a day and when somebody asks, until `stop`; `chores` are done with each look."""
    keeper: Keeper | None = None
    due, place = 0.0, 0
    while not stop.wait(LOOK_S):
        try:
            chores()
            keeper = keeper or make_keeper()
            for asked in archiving.unanswered(records, place):
                keeper.answer(asked)
                place, due = asked.seq, due if asked.dry_run else 0.0
            if time.monotonic() >= due:
                more = keeper.archive().full
                due = time.monotonic() + (0.0 if more else keeper.again_s)
        except LostLease:
            # The loop that shows that this executor lives finds out too, and ends the process.
            return
        except UsageError:
            # No policy is in force yet: there is nothing to keep, nor to remove.
            continue
        except Exception as error:
            log.warning("can't archive: %s", error)
            due = time.monotonic() + AGAIN_S


class Keeper:
    """Looks for what can be removed from an installation, and removes it.

    `readers` are the names of those who are told of events: what they have not dealt with is kept. What is old, `clock`
    says.
    """

    def __init__(
        self,
        services: Services,
        engine: WorkflowEngine,
        *,
        readers: Collection[str],
        clock: Callable[[], datetime],
    ) -> None:
        self._services = services
        self._engine = engine
        self._readers, self._clock = readers, clock
        self._deferred = self._resisted = False
        # Work that is recorded as removed and resists, and bundles of which the target has nothing any more.
        self._stuck: set[str] = set()
        self._discarded: set[str] = set()
        # Bundles whose images were refused, and the pause that they are given: its seconds, and until when.
        self._refused: set[str] = set()
        self._pause_s = self._paused_until = 0.0
        # What a round before was cut off in was not recorded.
        services.bundles.clear_aside(back=True)

    @property
    def again_s(self) -> float:
        """So soon the next round should come: earlier when the last one has left something to it."""
        if self._deferred or self._resisted:
            return AGAIN_S
        return max(self._paused_until - time.monotonic(), AGAIN_S) if self._pause_s else EVERY_S

    def answer(self, asked: Archiving) -> None:
        """Do what somebody asked for, or look only, and tell what was found; images are left to the next round."""
        try:
            found = self._look() if asked.dry_run else self._all_rounds()
            outcome: dict[str, Any] = {"found": found.as_dict()}
        except LostLease:
            raise
        except SlipwayError as error:
            outcome = {"error": error.as_dict()}
        if not asked.dry_run:
            # Whoever asks may have mended what refused.
            self._paused_until = 0.0
        with self._services.records.write() as transaction:
            archiving.answer(transaction, asked, self._services.model, outcome)

    def archive(self) -> Removable:
        """Remove what can be removed, up to ROUND of each kind, and record it; discard images for IMAGES_S."""
        self._trace()
        found = self._round()
        self._discard_images(found)
        return found

    def _trace(self) -> None:
        """Keep where versions come from that an older Slipway has pinned, while their bundles are there to say it."""
        services = self._services
        for pin in untraced(services.records):
            if not services.bundles.has(pin.bundle_digest):
                continue
            try:
                provenance = services.bundles.body(pin.bundle_digest)["provenance"]
            except DeployFailed:
                # A damaged bundle is the doctor's to name.
                continue
            with services.records.write() as transaction:
                trace(transaction, pin, provenance)

    def _all_rounds(self) -> Removable:
        """Remove and record until nothing is left."""
        self._trace()
        found = more = self._round()
        while more.full:
            more = self._round()
            found = found.joined(more)
        return found

    def _round(self) -> Removable:
        found = self._look()
        if found.any:
            self._record(found)
        self._remove(found)
        if found.journal:
            self._engine.forget(found.journal)
        return found

    def _record(self, found: Removable) -> None:
        """Take out of the store, and out of what was found, what may go by now, and write it into the audit log."""
        services = self._services
        try:
            with services.records.write() as transaction:
                confirm_leader(services, within=transaction)
                # What happened since the look may need what was free then.
                if transaction.newest_event() != found.seen or _under_way(transaction):
                    found.bundles, found.evaluation_sets, self._deferred = [], [], True
                found.bundles = [digest for digest in found.bundles if self._is_set_aside(digest)]
                sets = services.workdir / _SETS
                found.evaluation_sets = [name for name in found.evaluation_sets if _is_removed(sets / name)]
                found.progress = self._forget_progress(transaction)
                if found.any:
                    transaction.audit("executor", SUBJECT, "outcome", subject=services.model, detail=found.as_dict())
        except BaseException:
            services.bundles.clear_aside(back=True)
            raise

    def _is_set_aside(self, digest: str) -> bool:
        try:
            self._services.bundles.set_aside(digest)
        except OSError as error:
            log.warning("the bundle %s is left: %s", digest, error)
            return False
        return True

    def _remove(self, found: Removable) -> None:
        """Remove what was recorded, now or before, and nobody can come to need any more; what resists is left."""
        files = self._services.workdir / _FILES
        self._stuck = {name for name in self._stuck.union(found.work) if not _is_removed(files / name)}
        self._resisted = bool(self._stuck)
        try:
            self._services.bundles.clear_aside()
        except OSError as error:
            log.warning("what was a bundle is left: %s", error)
            self._resisted = True

    def _discard_images(self, found: Removable) -> None:
        """Have the target forget bundles that are gone, since this round or any before, unless work is under way."""
        services = self._services
        if self._deferred:
            return
        gone = found.free.difference(services.bundles.digests())
        self._discarded &= gone
        self._refused &= gone
        if time.monotonic() < self._paused_until:
            return
        refusal, enough_at = "", time.monotonic() + IMAGES_S
        # What was refused last comes last.
        for digest in sorted(gone - self._discarded, key=lambda digest: (digest in self._refused, digest)):
            # What has begun since the look may need the image, and build the bundle again.
            if services.records.events(after=found.seen, limit=1):
                self._deferred = True
                break
            if services.bundles.has(digest):
                continue
            confirm_leader(services)
            try:
                services.target.discard(digest)
                self._discarded.add(digest)
            except SlipwayError as error:
                self._refused.add(digest)
                refusal = f"the image of {digest} is left: {error.message}"
            if time.monotonic() >= enough_at:
                self._resisted = self._resisted or not refusal
                break
        else:
            self._pause_s = self._pause_s if refusal else 0.0
        if refusal:
            self._pause(refusal)

    def _pause(self, refusal: str) -> None:
        """Leave images alone for twice as long as the last time, and say so the first time."""
        if not self._pause_s:
            log.warning("%s; images that are refused are tried again ever more seldom", refusal)
        self._pause_s = min(max(2 * self._pause_s, AGAIN_S), EVERY_S)
        self._paused_until = time.monotonic() + self._pause_s

    def _look(self) -> Removable:
        """Return what can be removed now, at most ROUND of each kind."""
        services, policies = self._services, self._policies()
        retentions = {model: policy.retention for model, policy in policies.items()}
        with services.records.write() as transaction:
            seen, self._deferred = transaction.newest_event(), _under_way(transaction)
        history = _history(services.records)
        found = Removable(
            work=self._old(_FILES, "*", self._longest("work_days"), history.unfinished | self._stuck),
            journal=self._ended_long_ago(self._longest("journal_days")),
            progress=self._old_lines(),
            seen=seen,
        )
        if not self._deferred:
            kept = set().union(*(self._kept_of(history, model, each) for model, each in retentions.items()))
            in_force = {digest for policy in policies.values() for digest in policy.evaluation.digests}
            added = {each.digest for each in services.records.find(AddedSet) if each.state is not RunState.STOPPED}
            judging = kept_evaluation_sets(history, kept) | in_force | added
            sets = {f"{digest.replace(':', '-')}.parquet" for digest in judging}
            found.free = frozenset(history.known - kept)
            found.bundles = [digest for digest in services.bundles.digests() if digest in found.free][:ROUND]
            days = self._longest("bundle_days")
            found.evaluation_sets = self._old(_SETS, "*.parquet", days, sets)
            patterns = [each for each in ("*.rows", "*.reference") if self._old(_SETS, each, days, set())]
            needed = self._trained_with(kept) if patterns else set()
            for pattern in patterns:
                found.evaluation_sets += self._old(_SETS, pattern, days, needed)
        return found

    def _trained_with(self, bundles: Iterable[str]) -> set[str]:
        """Return the names of the files of rows that the versions of these bundles were trained with."""
        found = set()
        for digest in filter(self._services.bundles.has, bundles):
            try:
                provenance = Description.read(self._services.bundles.body(digest)).provenance
            except DeployFailed:
                # A damaged bundle is the doctor's to name; its rows are fetched again where they are needed.
                continue
            datasets = provenance.datasets
            found |= {training_rows_name(datasets.training_rows)} if datasets.training_rows else set()
            found |= {reference_name(datasets.reference)} if datasets.reference else set()
        return found

    def _old(self, folder: str, pattern: str, days: float, kept: set[str]) -> list[str]:
        """Return the names in a folder of the home that are not kept and were not changed for so long."""
        since = datetime.fromisoformat(self._since(days)).timestamp()
        found = sorted((self._services.workdir / folder).glob(pattern))
        return [path.name for path in found if path.name not in kept and _changed(path) < since][:ROUND]

    def _ended_long_ago(self, days: float) -> list[str]:
        """Return work whose journal nobody reads any more: its workflow has ended, and so its record says."""
        ended = self._engine.ended(before=self._since(days), limit=ROUND)
        records = self._services.records
        return [id for id in ended if all(work.state.final for work in work_of(records, id))]

    def _old_lines(self) -> int:
        """Return how many of the oldest lines of progress are old."""
        lines = self._services.records.events(kinds=[EventKind.PROGRESS_MADE], limit=ROUND_LINES)
        before = self._since(self._longest("progress_days"))
        return sum(line.at < before for line in lines)

    def _forget_progress(self, transaction: Transaction) -> int:
        """Remove old lines of progress that every subscriber has dealt with."""
        # A name that no code has any more never reads on, and would keep them for ever.
        places = [place.seq for place in transaction.find(Subscriber) if place.id in self._readers]
        before = self._since(self._longest("progress_days"))
        return transaction.forget_progress(
            before=before, up_to=min(places, default=transaction.newest_event()), limit=ROUND_LINES
        )

    def _policies(self) -> dict[str, Policy]:
        """Return each model's policy in force; raise UsageError before there is any for the default.

        One that was added and has none yet goes by the default one's.
        """
        services = self._services
        default = services.policy(services.model)
        found = {}
        named = {pin.model for pin in services.records.find(PinnedVersion)}
        for model in named.union(known_models(services.records, services.model)):
            own = newest_policy(services.records, model)
            found[model] = Policy.read(own.body) if own else default
        return found

    def _longest(self, name: str) -> float:
        """Return the most days that any model's policy keeps what is not told apart by models."""
        return max(float(getattr(policy.retention, name)) for policy in self._policies().values())

    def _kept_of(self, history: History, model: str, retention: Retention) -> set[str]:
        """Return the bundles of a model that its policy keeps."""
        return set(kept_bundles(history.of(model), retention, self._since(retention.bundle_days)))

    def _since(self, days: float) -> str:
        return (self._clock() - timedelta(days=days)).isoformat(timespec="milliseconds")


def _history(source: Records | Transaction) -> History:
    return History(
        source.find(PinnedVersion), source.find(Evaluation), source.find(Promotion), source.find(ReleaseRecord)
    )


def _under_way(source: Records | Transaction) -> bool:
    """Whether anything may use a bundle that no record names yet."""
    states = (RunState.REQUESTED, RunState.RUNNING, RunState.APPROVED)
    busy = any(source.find(kind, state=state) for kind in KINDS for state in states)
    return busy or any(lease.holder for lease in source.find(Lease))


def _is_removed(path: Path) -> bool:
    """Remove a file or a folder; return whether it is gone, and log why it is not."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s is left: %s", path, error)
    return not path.exists()


def _changed(path: Path) -> float:
    """Return when a path was changed last, the present for one that has gone meanwhile."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()
