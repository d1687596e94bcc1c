"""Trying a version in staging, in the slots beside the live one: its first request, then the gates over a service.

Whatever happens, both slots end empty. A slot that resists is an error of its own: it says nothing of the version.
Nor does one that is empty because its target was started anew while an evaluation was cut off: what was started there
before is waited for, or started again.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.domain.bundle import Schema, shared_requests
from pipelines.domain.description import Description
from pipelines.domain.records import Evaluation, ReleaseRecord
from pipelines.domain.release import Endpoint, Environment, Phase, Release, Slot
from pipelines.domain.texts import one_line
from pipelines.domain.verdict import GateResult, Verdict, overall
from pipelines.errors import DeployFailed, GateFailed, Undecided
from pipelines.evaluation.ending import Ending
from pipelines.evaluation.gates.registry import AnyGate, Gates
from pipelines.evaluation.gates.service.slo import SLO, time_first_request
from pipelines.evaluation.gates.service.world import Beside, Service, Shadowed
from pipelines.evaluation.subject import Subject, kept_rows, results_step, workdir_of
from pipelines.live.recorded import kept_recorded, recorded_requests
from pipelines.ports import LoadRun, Step, never_ending
from pipelines.releases import leases
from pipelines.releases.services import Services
from pipelines.releases.waiting import read, wait_empty, wait_settled

STAGING = Environment.STAGING


@dataclass(frozen=True)
class LoadsInTurn:
    """Runs the load of one evaluation while that of no other runs."""

    services: Services
    evaluation: Evaluation

    def run(
        self,
        plan: dict[str, Any],
        rows: list[dict[str, Any]],
        workdir: Path,
        *,
        check: Callable[[], None] = never_ending,
    ) -> LoadRun:
        """Do what the installation's runner does, once it is this one's turn; `check` ends the waiting too."""
        asked = self.evaluation

        def wait(why: str) -> None:
            self.services.note(asked.id, "load run", why)

        with self.services.load_turns.turn(f"{asked.id} ({asked.model})", wait=wait, check=check):
            return self.services.loads.run(plan, rows, workdir, check=check)

    def remove_left(self) -> set[str]:
        """End nothing: that is for who begins as the executor."""
        return set()


@dataclass
class Started:
    """A release in a slot, where it answers, and how long it took to start.

    `seen` says whether this process has seen it serve.
    """

    release: Release
    slot: Slot
    url: str
    start_s: float
    seen: bool


@dataclass(frozen=True)
class Trial:
    """One version in staging, and the steps in which it is measured there."""

    services: Services
    evaluation: Evaluation
    subject: Subject
    step: Step
    ending: Ending

    @property
    def measuring(self) -> Step:
        """The step that is not begun when the evaluation has to end."""
        return self.ending.before_each(self.step)

    def measure(self, gates: Gates) -> list[GateResult]:
        """Serve the bundle in staging's trial slot and return what its gates found, until one of them said no."""
        subject = self.subject
        trial = self._release("trial", subject.version, subject.bundle_digest)
        overridden = self.evaluation.override.gates if self.evaluation.override else frozenset()
        with self._emptied(Slot.TRIAL, "trial stopped"):
            try:
                started = self._started("trial started in staging", trial, Slot.TRIAL)
            except GateFailed as failure:
                message = f"FAIL: smoke: version {subject.version} did not start: {one_line(failure.message)}"
                return [GateResult("smoke", Verdict.FAILED, message)]
            except DeployFailed as failure:
                message = f"ERROR: smoke: version {subject.version} could not be tried: {one_line(failure.message)}"
                return [GateResult("smoke", Verdict.ERROR, message)]
            # Read within each step: what is repeated after a crash must not depend on files.
            service = partial(self._service, started)
            first_ms = self.measuring("first request timed", lambda: self._time_first(service()))
            results: list[GateResult] = []
            for gate in gates.of_the_service:
                results += self._measured(gate, partial(service, first_request_ms=first_ms))
                if not overall(results, overridden=overridden).goes_on:
                    break
            return results

    def _measured(self, gate: AnyGate, service: Callable[..., Service]) -> list[GateResult]:
        """Measure a gate, in turn with the champion's bundle in staging's baseline slot where its limits compare."""

        def run(beside: tuple[Started, ReleaseRecord] | None = None) -> list[GateResult]:
            def measure() -> list[GateResult]:
                results = gate.results(service(beside=beside), self.subject.policy)
                for result in results:
                    self.services.note(self.evaluation.id, result.name, result.message)
                return results

            return results_step(self.measuring, gate.step or gate.name, measure)

        compared = gate.beside(gate.limits_of(self.subject.policy))
        if compared is None or self.subject.champion_release is None:
            return run()
        champion = read(self.services, ReleaseRecord, self.subject.champion_release)
        baseline = self._release("baseline", champion.version, champion.bundle_digest)
        with self._emptied(Slot.BASELINE, "champion stopped"):
            try:
                started = self._started("champion started beside it", baseline, Slot.BASELINE)
            except (GateFailed, DeployFailed) as failure:
                why = one_line(failure.message)
                message = f"ERROR: {compared}: the champion v{champion.version} did not start: {why}"
                return [GateResult(compared, Verdict.ERROR, message)]
            return run((started, champion))

    def _release(self, kind: str, version: str, digest: str) -> Release:
        return Release(f"{kind}-{self.evaluation.id}", self.subject.model, STAGING, version, digest)

    def _service(
        self,
        started: Started,
        *,
        first_request_ms: float | None = None,
        beside: tuple[Started, ReleaseRecord] | None = None,
    ) -> Service:
        trial, url = started.release, self._url(started)
        description = Description.read(self.services.bundles.body(trial.bundle_digest))
        rows = kept_rows(self.services, self.evaluation, self.subject.rows)
        champion = self._champion(description, rows, self._url(beside[0]), beside[1]) if beside else None
        return Service(
            url=url,
            release=trial,
            golden=description.golden,
            profile=self.subject.policy.profile,
            rows=rows,
            probe=self.services.probe,
            loads=LoadsInTurn(self.services, self.evaluation),
            releases=lambda: self.services.records.find(ReleaseRecord),
            workdir=workdir_of(self.services, self.evaluation),
            nullable=frozenset(each.name for each in description.features if each.nullable),
            first_request_ms=first_request_ms,
            start_s=started.start_s,
            production=self._production(),
            champion=champion,
            unlike=beside is not None and champion is None,
            check=self.ending.check,
            features=Schema.of(description).features,
            task=description.task,
            output=description.output,
            shadowed=lambda most: self._shadowed(description, most),
        )

    def _shadowed(self, description: Description, most: int) -> Shadowed | None:
        """Return the newest requests that production sampled of the champion; a repeated step gets the same."""
        if self.subject.champion_release is None:
            return None
        champion = read(self.services, ReleaseRecord, self.subject.champion_release)
        theirs = Description.read(self.services.bundles.body(champion.bundle_digest))
        recorded = kept_recorded(
            workdir_of(self.services, self.evaluation) / "shadowed.json",
            lambda: recorded_requests(self.services.workdir, theirs, champion.version, rows=most),
        )
        return Shadowed.of(recorded, description, theirs)

    def _production(self) -> str | None:
        """Return where what serves production is reached, None where nothing does."""
        if self.subject.champion_release is None:
            return None
        return self.services.target.observe(Endpoint(self.subject.model, Environment.PRODUCTION), Slot.LIVE).url

    def _champion(
        self, description: Description, rows: list[dict[str, Any]], url: str, served: ReleaseRecord
    ) -> Beside | None:
        """Return the champion with the requests that it takes as well, without fields that are new; None for none."""
        theirs = Description.read(self.services.bundles.body(served.bundle_digest))
        shared = shared_requests(rows, Schema.of(description).features, Schema.of(theirs).features)
        return Beside(url, served.version, shared) if shared else None

    def _time_first(self, service: Service) -> float:
        timeout_s = SLO.limits_of(self.subject.policy).timeout_s
        return time_first_request(service.probe, service.url, service.rows[0], timeout_s=timeout_s)

    @contextmanager
    def _emptied(self, slot: Slot, name: str) -> Iterator[None]:
        """Empty a slot at the end of the block, as the step `name`."""
        try:
            yield
        finally:
            self.step(name, lambda: self._stop(slot))

    def _started(self, name: str, release: Release, slot: Slot) -> Started:
        """Serve a release in a slot of staging, as the step `name`; raise as `_start` does."""
        seen = list[str]()

        def start() -> dict[str, Any]:
            begun_s = time.monotonic()
            seen.append(self._start(release, slot))
            return {"url": seen[0], "seconds": time.monotonic() - begun_s}

        told = self.measuring(name, start)
        return Started(release, slot, told["url"], told["seconds"], seen=bool(seen))

    def _start(self, release: Release, slot: Slot) -> str:
        """Serve a release in a slot of staging; return its URL.

        Raises GateFailed where it crashes or does not become ready, DeployFailed where the place does not let it try.
        """
        self._order(release, slot)
        state = wait_settled(
            self.services,
            release.endpoint,
            slot,
            release.id,
            order=partial(self._order, release, slot),
            check=self.ending.check,
            own_failure=GateFailed,
        )
        if state.url is None or not state.serves(release):
            raise GateFailed(f"the {slot} slot does not serve {release.bundle_digest}")
        return state.url

    def _order(self, release: Release, slot: Slot) -> None:
        self.services.target.prepare(release.endpoint, release.bundle_digest)
        with leases.confirmed(self.services, self.subject.model, STAGING, self.evaluation.id) as epoch:
            self.services.target.start(release, slot, epoch=epoch)

    def _url(self, started: Started) -> str:
        """Return where a release answers by now; raise Undecided where one does not that a former executor started."""
        if not started.seen:
            started.url, started.seen = self._found_again(started.release, started.slot), True
        return started.url

    def _found_again(self, release: Release, slot: Slot) -> str:
        """Wait until a slot serves a release, which is started again in a target that was never asked for it."""
        deadline, ordered = time.monotonic() + self.services.timing.converge_s, False
        while True:
            self.ending.check()
            state = self.services.target.observe(release.endpoint, slot)
            asked = state.wanted_id == release.id
            if asked and state.url and state.serves(release):
                return state.url
            if not asked and not ordered:
                self._order(release, slot)
                ordered = True
            elif (asked and state.phase is Phase.FAILED) or time.monotonic() > deadline:
                raise Undecided(
                    f"the {slot} slot does not serve version {release.version} any more, which was started there before"
                    f" this executor: {one_line(state.failure or str(state.phase))}",
                    next="evaluate the version again",
                )
            time.sleep(self.services.timing.poll_s)

    def _stop(self, slot: Slot) -> None:
        endpoint = Endpoint(self.subject.model, STAGING)
        with leases.confirmed(self.services, self.subject.model, STAGING, self.evaluation.id) as epoch:
            self.services.target.stop(endpoint, slot, epoch=epoch)
        wait_empty(self.services, endpoint, slot)
