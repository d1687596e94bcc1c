"""Reads the requests that replicas have sampled, and the labels that people send for them, beside all other work.

Nothing is read twice: the numbers of what was read stand in the names of its files, and are sent with the next
question. What a replica gave up before it was asked is counted as dropped, and so is about what one that
is gone took with it.
"""

import contextlib
import functools
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from pipelines.domain.description import Description
from pipelines.domain.policy import RequestLog as RequestPolicy
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Feedback, LiveWindow, PinnedVersion, RequestLog
from pipelines.domain.release import Endpoint, Environment, Slot
from pipelines.errors import DeployFailed, LostLease, Undecided
from pipelines.executor.beside import look_after
from pipelines.executor.live_quality import quality_of
from pipelines.live.request_files import ID, Pulled, RequestFiles, Window
from pipelines.live.scores import added, scores_of
from pipelines.live.told import Sampled, Told, kept_features, read_rows, read_told
from pipelines.ports import Transaction
from pipelines.releases.leases import confirm_leader
from pipelines.releases.services import Services

R = TypeVar("R")

# So long a replica may be silent before it is taken to be gone.
GONE_S = 60.0
# One that was given up may answer again, and goes on where it was: so long that is remembered.
REMEMBER_S = 24 * 3600.0
# What is too old, or too much, goes so often; and so often quality is measured anew, while there is a reason.
FORGET_S = 600.0
MEASURE_S = 60.0
# A replica that has more to tell is asked again, so often in a row.
_AGAIN = 5
# Sizes of columns of every database.
_MOST = 2**31 - 1

log = logging.getLogger("slipway.requests")


def read_requests(services: Services, stop: threading.Event) -> None:
    """Read what was sampled of every model until `stop`; what fails is logged once, and repeated."""
    look_after(services, stop, RequestReader, log, "read the requests")


class RequestReader:
    """Reads what was sampled of one model; `look` does what is due."""

    def __init__(self, services: Services, model: str) -> None:
        self._services, self._model = services, model
        self._files = RequestFiles(services.workdir)
        self._described: dict[str, Description] = {}
        # Up to which number each replica that this process has met was read.
        self._read: dict[str, int] = {}
        self._pull_at = self._forget_at = self._measure_at = 0.0
        self._unmeasured = True

    def look(self) -> None:
        """Pull, take labels in, measure quality and remove what is old, each when it is time; raise LostLease.

        What fails keeps nothing else from being done: on a full disk it is the last of these that helps.
        """
        policy = self._services.policy(self._model).requests
        parts: list[Callable[[], object]] = [self._take_labels]
        if time.monotonic() >= self._pull_at:
            self._pull_at = time.monotonic() + policy.every_s
            parts = [*(partial(self.pull, environment, policy) for environment in Environment), *parts]
        if time.monotonic() >= self._forget_at:
            self._forget_at = time.monotonic() + FORGET_S
            parts.append(partial(self.forget, policy))
        parts.append(partial(self._measure, policy))
        _, failed = _each(parts)
        if failed:
            raise failed

    def _take_labels(self) -> None:
        self._unmeasured |= self.take_labels()

    def _measure(self, policy: RequestPolicy) -> None:
        if self._unmeasured and time.monotonic() >= self._measure_at:
            self._measure_at, self._unmeasured = time.monotonic() + MEASURE_S, False
            self.measure(policy)

    def pull(self, environment: Environment, policy: RequestPolicy) -> None:
        """Ask the replicas of an environment's live slot, until none has more to tell.

        What one has told that can't be kept keeps none of the others from being read: it is raised in the end.
        """
        endpoint = Endpoint(self._model, environment)
        sampled = environment is Environment.PRODUCTION or policy.staging
        plan = {"rate": policy.rate if sampled else 0, "rows": policy.ring_rows, "without": list(policy.without)}
        known = self._log(endpoint)
        self._read = {boot: each["read"] for boot, each in (known.replicas if known else {}).items()} | self._read
        met: set[str] = set()
        failed: Exception | None = None
        for _ in range(_AGAIN):
            question = json.dumps({"read": self._read, "plan": plan}).encode()
            answers = self._services.target.pull_samples(endpoint, Slot.LIVE, question)
            more, failed = _each(partial(self._take, endpoint, content, met) for content in answers)
            if failed or not any(more):
                break
        self._count_lost(endpoint, met, policy)
        if failed:
            raise failed

    def take_labels(self) -> bool:
        """Put the labels that people have sent beside the requests; return whether there were any."""
        services = self._services
        waiting = services.records.find(Feedback, model=self._model, state=RunState.REQUESTED)
        for feedback in waiting:
            labels = [(each["request_id"], each["row"], each["label"]) for each in feedback.labels]
            self._files.add_labels(self._model, _day(feedback.created_at), feedback.id, labels)
            with services.records.write() as transaction:
                confirm_leader(services, within=transaction)
                transaction.change(feedback, state=RunState.DONE, labels=[], ended_at=services.now())
        return bool(waiting)

    def measure(self, policy: RequestPolicy) -> None:
        """Compare what was answered with the labels, in every window that is kept, and record the quality."""
        oldest = _day(self._services.now()) - timedelta(days=policy.days)
        labels = self._files.labels(self._model, oldest)
        if labels is None:
            return
        ids = labels[ID].combine_chunks()
        for environment in Environment:
            known = self._log(Endpoint(self._model, environment))
            output = functools.cache(partial(self._output, known)) if known else None
            for window in self._files.windows(self._model, environment) if output else []:
                answers = self._files.answers(window, ids)
                answered = output(window.version) if output and answers is not None else None
                quality = quality_of(answered, answers, labels) if answered else None
                if quality:
                    self._note_quality(window, quality)

    def forget(self, policy: RequestPolicy) -> None:
        """Remove what is older than the policy keeps it, and the oldest of what is too much; join what is left.

        What is left of models that were removed goes by the default model's policy.
        """
        confirm_leader(self._services)
        before = _day(self._services.now()) - timedelta(days=policy.days)
        for model in (self._model, *self._removed_models()):
            count, size = self._files.forget(model, before=before, most_bytes=policy.megabytes * 1_000_000)
            if count:
                log.info("removed %d files of requests of %s, %.1f MB", count, model, size / 1e6)
        self._files.join(self._model, today=_day(self._services.now()))

    def _removed_models(self) -> list[str]:
        """Return the models with files that nobody looks after any more, for the default model's reader alone."""
        if self._model != self._services.model:
            return []
        return sorted(set(self._files.models()).difference(self._services.models()))

    def _take(self, endpoint: Endpoint, content: bytes, met: set[str]) -> bool:
        """Keep what one replica has answered, and note that it was `met`; return whether it has more."""
        told = read_told(content)
        met.add(told.boot)
        return self._keep(endpoint, told)

    def _keep(self, endpoint: Endpoint, told: Told) -> bool:
        """Keep what one replica has told; return whether it has more."""
        description = self._describe(told.digest)
        noted = self._read.setdefault(told.boot, 0)
        after = max(self._read[told.boot], self._files.last_read(self._model, endpoint.environment, told.boot))
        # Of what an executor that died has put into a file, nothing is recorded yet.
        fresh = [entry[0] for entry in told.entries if entry[0] > noted]
        if any(later <= earlier for earlier, later in itertools.pairwise(fresh)):
            raise Undecided("a replica told of its requests out of order", next="release again")
        rows = read_rows(told, description, after=noted)
        last = fresh[-1] if fresh else max(after, told.sampled)
        if new := [row for row in rows if row.seq > after]:
            confirm_leader(self._services)
            features = kept_features(told, description)
            pulled = Pulled(self._model, endpoint.environment, told.version, told.boot, features, new)
            self._files.add(pulled)
        known = max(noted, min(after, fresh[0] - 1 if fresh else after))
        self._note(endpoint, told, description, rows, read=last, dropped=last - known - len(rows))
        self._read[told.boot] = last
        self._unmeasured |= bool(rows)
        return bool(fresh) and told.sampled > last

    def _note(
        self,
        endpoint: Endpoint,
        told: Told,
        description: Description,
        rows: Sequence[Sampled],
        *,
        read: int,
        dropped: int,
    ) -> None:
        """Record in one transaction how far a replica was read, and what that adds to its windows.

        A replica that nobody asks anything is recorded now and then: that it is there.
        """
        services, at = self._services, self._services.now()
        now = {"seen": told.seen, "sampled": told.sampled, "read": read}
        last = self._log(endpoint)
        of_it = last.replicas.get(told.boot) if last else None
        if of_it and now.items() <= of_it.items() and _age_s(of_it["at"], at) < GONE_S / 2:
            return
        with services.records.write() as transaction:
            confirm_leader(services, within=transaction)
            known = _found(transaction, RequestLog, str_of(endpoint))
            before = (known.replicas if known else {}).get(told.boot, {"seen": 0, "sampled": 0, "at": at})
            passed_s = (datetime.fromisoformat(at) - datetime.fromisoformat(before["at"])).total_seconds()
            pace = (told.sampled - before["sampled"]) / passed_s if passed_s > 0 else 0.0
            replica = {**now, "version": told.version, "pace": pace, "at": at}
            output = _output_of(description, told.version)
            replicas = {**(known.replicas if known else {}), told.boot: replica}
            transaction.put(RequestLog(str_of(endpoint), self._model, endpoint.environment, output, replicas, at))
            if "given_up" in before:
                then = Window(self._model, endpoint.environment, before["version"], _day(before["at"]))
                self._add(transaction, then, at, dropped=-before["given_up"], lost=-1)
            today = Window(self._model, endpoint.environment, told.version, _day(at))
            self._add(transaction, today, at, seen=told.seen - before["seen"], dropped=dropped)
            for day in sorted({row.at.date() for row in rows}):
                of_day = [row for row in rows if row.at.date() == day]
                scores = scores_of(row.answer for row in of_day)
                self._add(transaction, replace(today, day=day), at, kept=len(of_day), scores=scores)

    def _count_lost(self, endpoint: Endpoint, met: set[str], policy: RequestPolicy) -> None:
        """Give up the replicas that are silent for long, with what they took, and forget those that stay so."""
        known, at = self._log(endpoint), self._services.now()
        if known is None:
            return
        gone_s = max(GONE_S, 3 * policy.every_s)
        gone, forgotten, replicas = [], [], dict(known.replicas)
        for boot, each in known.replicas.items():
            silent_s = 0.0 if boot in met else _age_s(each["at"], at)
            if "given_up" not in each and silent_s > gone_s:
                gone.append(boot)
            elif "given_up" in each and silent_s > max(gone_s, REMEMBER_S):
                forgotten.append(boot)
                del replicas[boot]
        if not gone and not forgotten:
            return
        with self._services.records.write() as transaction:
            confirm_leader(self._services, within=transaction)
            for boot in gone:
                each = replicas[boot]
                # It went somewhere between two questions.
                taken = min(policy.ring_rows, round(each["pace"] * policy.every_s / 2))
                taken += max(0, each["sampled"] - each["read"])
                replicas[boot] = {**each, "given_up": taken}
                window = Window(self._model, endpoint.environment, each["version"], _day(each["at"]))
                self._add(transaction, window, at, dropped=taken, lost=1)
                log.info("a replica of %s is gone, with about %d sampled requests", endpoint, taken)
            transaction.put(replace(known, replicas=replicas, at=at))
        for boot in forgotten:
            self._read.pop(boot, None)

    def _add(self, transaction: Transaction, window: Window, at: str, **more: Any) -> None:
        """Add counts, and a distribution of scores, to a window."""
        id = f"{window.model}/{window.environment}/{window.day}/{window.version}"
        empty = LiveWindow(
            id, window.model, window.environment, window.version, str(window.day),
            seen=0, kept=0, dropped=0, lost=0, scores={}, at=at,
        )  # fmt: skip
        known = _found(transaction, LiveWindow, id) or empty
        scores = added(known.scores, more.pop("scores", {}))
        counts = {name: min(_MOST, getattr(known, name) + count) for name, count in more.items()}
        transaction.put(replace(known, **counts, scores=scores, at=at))

    def _note_quality(self, window: Window, quality: dict[str, Any]) -> None:
        id = f"{window.model}/{window.environment}/{window.day}/{window.version}"
        with self._services.records.write() as transaction:
            confirm_leader(self._services, within=transaction)
            known = _found(transaction, LiveWindow, id)
            if known and known.quality != quality:
                transaction.put(replace(known, quality=quality))

    def _log(self, endpoint: Endpoint) -> RequestLog | None:
        found = self._services.records.find(RequestLog, id=str_of(endpoint))
        return found[0] if found else None

    def _output(self, known: RequestLog, version: str) -> dict[str, Any] | None:
        """Return what a version answers, None where its bundle is gone or damaged."""
        if known.output["version"] == version:
            return known.output
        with contextlib.suppress(DeployFailed):
            for pin in self._services.records.find(PinnedVersion, id=f"{self._model}/{version}"):
                if self._services.bundles.has(pin.bundle_digest):
                    return _output_of(Description.read(self._services.bundles.body(pin.bundle_digest)), version)
        return None

    def _describe(self, digest: str) -> Description:
        if digest not in self._described:
            self._described = {digest: Description.read(self._services.bundles.body(digest))}
        return self._described[digest]


def str_of(endpoint: Endpoint) -> str:
    """Return by what the records know an endpoint."""
    return f"{endpoint.model}/{endpoint.environment}"


def _each(parts: Iterable[Callable[[], R]]) -> tuple[list[R], Exception | None]:
    """Do each part, whatever becomes of the others; return what they return, and the first failure. Raise LostLease."""
    done: list[R] = []
    failed: Exception | None = None
    for part in parts:
        try:
            done.append(part())
        except LostLease:
            raise
        except Exception as error:
            failed = failed or error
    return done, failed


def _output_of(description: Description, version: str) -> dict[str, Any]:
    """Return what a version answers, by `task`, `classes` and `positive`."""
    output = description.output
    return {
        "task": str(description.task),
        "classes": list(output.classes),
        "positive": output.positive,
        "version": version,
    }


def _found(transaction: Transaction, kind: Any, id: str) -> Any:
    found = transaction.find(kind, id=id)
    return found[0] if found else None


def _day(at: str) -> Any:
    return datetime.fromisoformat(at).astimezone(UTC).date()


def _age_s(at: str, now: str) -> float:
    return (datetime.fromisoformat(now) - datetime.fromisoformat(at)).total_seconds()
