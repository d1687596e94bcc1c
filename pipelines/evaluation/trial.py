"""Trying a version in staging, in the slots beside the live one: its first request, then the gates over a service.

Whatever happens, both slots end empty. A slot that resists is an error of its own: it says nothing of the version.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from pipelines.domain.description import Description
from pipelines.domain.records import Evaluation, ReleaseRecord
from pipelines.domain.release import Endpoint, Environment, Release, Slot
from pipelines.domain.texts import one_line
from pipelines.domain.verdict import GateResult, Verdict, overall
from pipelines.errors import DeployFailed, GateFailed
from pipelines.evaluation.ending import Ending
from pipelines.evaluation.gates.registry import AnyGate, Gates
from pipelines.evaluation.gates.service.slo import SLO, time_first_request
from pipelines.evaluation.gates.service.world import Beside, Service
from pipelines.evaluation.subject import Subject, kept_rows, results_step, workdir_of
from pipelines.ports import Step
from pipelines.releases import leases
from pipelines.releases.services import Services
from pipelines.releases.waiting import read, wait_empty, wait_settled

STAGING = Environment.STAGING


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
                url = self.measuring("trial started in staging", lambda: self._start(trial, Slot.TRIAL))
            except GateFailed as failure:
                message = f"FAIL: smoke: version {subject.version} did not start: {one_line(failure.message)}"
                return [GateResult("smoke", Verdict.FAILED, message)]
            except DeployFailed as failure:
                message = f"ERROR: smoke: version {subject.version} could not be tried: {one_line(failure.message)}"
                return [GateResult("smoke", Verdict.ERROR, message)]
            # Read within each step: what is repeated after a crash must not depend on files.
            service = partial(self._service, trial, url)
            first_ms = self.measuring("first request timed", lambda: self._time_first(service()))
            results: list[GateResult] = []
            for gate in gates.of_the_service:
                results += self._measured(gate, partial(service, first_request_ms=first_ms))
                if not overall(results, overridden=overridden).goes_on:
                    break
            return results

    def _measured(self, gate: AnyGate, service: Callable[..., Service]) -> list[GateResult]:
        """Measure a gate, in turn with the champion's bundle in staging's baseline slot where its limits compare."""

        def run(champion: Beside | None = None) -> list[GateResult]:
            def measure() -> list[GateResult]:
                results = gate.results(service(champion=champion), self.subject.policy)
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
                url = self.measuring("champion started beside it", lambda: self._start(baseline, Slot.BASELINE))
            except (GateFailed, DeployFailed) as failure:
                why = one_line(failure.message)
                message = f"ERROR: {compared}: the champion v{champion.version} did not start: {why}"
                return [GateResult(compared, Verdict.ERROR, message)]
            return run(Beside(url, champion.version))

    def _release(self, kind: str, version: str, digest: str) -> Release:
        return Release(f"{kind}-{self.evaluation.id}", self.subject.model, STAGING, version, digest)

    def _service(
        self, trial: Release, url: str, *, first_request_ms: float | None = None, champion: Beside | None = None
    ) -> Service:
        return Service(
            url=url,
            release=trial,
            golden=Description.read(self.services.bundles.body(trial.bundle_digest)).golden,
            profile=self.subject.policy.profile,
            rows=kept_rows(self.services, self.evaluation, self.subject.rows),
            probe=self.services.probe,
            loads=self.services.loads,
            releases=lambda: self.services.records.find(ReleaseRecord),
            workdir=workdir_of(self.services, self.evaluation),
            first_request_ms=first_request_ms,
            champion=champion,
            check=self.ending.check,
        )

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

    def _start(self, release: Release, slot: Slot) -> str:
        """Serve a release in a slot of staging; return its URL.

        Raises GateFailed where it crashes or does not become ready, DeployFailed where the place does not let it try.
        """
        target = self.services.target

        def order() -> None:
            target.prepare(release.endpoint, release.bundle_digest)
            with leases.confirmed(self.services, self.subject.model, STAGING, self.evaluation.id) as epoch:
                target.start(release, slot, epoch=epoch)

        order()
        state = wait_settled(
            self.services,
            release.endpoint,
            slot,
            release.id,
            order=order,
            check=self.ending.check,
            own_failure=GateFailed,
        )
        if state.url is None or not state.serves(release):
            raise GateFailed(f"the {slot} slot does not serve {release.bundle_digest}")
        return state.url

    def _stop(self, slot: Slot) -> None:
        endpoint = Endpoint(self.subject.model, STAGING)
        with leases.confirmed(self.services, self.subject.model, STAGING, self.evaluation.id) as epoch:
            self.services.target.stop(endpoint, slot, epoch=epoch)
        wait_empty(self.services, endpoint, slot)
