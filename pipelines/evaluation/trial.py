"""Trying a version in staging, in the slots beside the live one: its first request, smoke, and the SLO under load.

Whatever happens, both slots end empty. A slot that resists is an error of its own: it says nothing of the version.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.domain.policy import Policy
from pipelines.domain.promotion import ReleaseState
from pipelines.domain.records import Evaluation, ReleaseRecord
from pipelines.domain.release import Endpoint, Environment, Release, Slot
from pipelines.domain.verdict import GateResult, Verdict, overall
from pipelines.errors import DeployFailed
from pipelines.evaluation.gates.service.slo import Measured, measure_slo, time_first_request, without_no
from pipelines.evaluation.gates.service.smoke import check_smoke
from pipelines.packaging.snapshot import Snapshot, read_snapshot
from pipelines.ports import Step
from pipelines.releases import leases
from pipelines.releases.rollout import wait_empty, wait_settled
from pipelines.releases.services import Services

STAGING = Environment.STAGING
COMPARED = "slo.p99_ratio"
NOTHING_TO_COMPARE = GateResult(COMPARED, Verdict.NOT_APPLICABLE, f"{COMPARED}: no champion yet to compare with")

Results = list[dict[str, Any]]


@dataclass(frozen=True)
class Subject:
    """What is measured, fixed at packaging: the bundle, the evaluation set, and the release compared with."""

    bundle_digest: str
    evalset_digest: str
    champion_release: str | None
    policy: dict[str, Any]

    @property
    def limits(self) -> Policy:
        """The policy that was in force at packaging: one report is judged by one policy."""
        return Policy.parse(self.policy)


def try_in_staging(services: Services, evaluation: Evaluation, subject: Subject, step: Step) -> Results:
    """Serve the bundle in staging's trial slot and return what its gates found, as they stand in a report."""
    trial = Release(f"trial-{evaluation.id}", evaluation.model, STAGING, evaluation.version, subject.bundle_digest)
    with _emptied(services, evaluation, Slot.TRIAL, step, "trial stopped"):
        try:
            url = step("trial started in staging", lambda: _start(services, evaluation, trial, Slot.TRIAL))
        except DeployFailed as failure:
            message = f"FAIL: smoke: version {evaluation.version} did not start: {failure.message}"
            return [GateResult("smoke", Verdict.FAILED, message).as_dict()]
        first_ms = step("first request timed", lambda: _time_first(services, subject, url))
        smoke = step("smoke and contract", lambda: _smoke(services, trial, url))
        if not overall(map(GateResult.from_dict, smoke)).goes_on:
            return smoke
        measured = Measured(url, trial.version, first_request_ms=first_ms)
        return smoke + _load(services, evaluation, subject, measured, step)


def _load(services: Services, evaluation: Evaluation, subject: Subject, measured: Measured, step: Step) -> Results:
    """Measure the SLO, in turn with the champion's bundle in staging's baseline slot where the policy compares."""

    def run(measured: Measured) -> Results:
        return step("latency SLO under load", lambda: _slo(services, evaluation, subject, measured))

    compares = subject.limits.slo.comparison is not None
    if not compares or subject.champion_release is None:
        return run(measured) + [NOTHING_TO_COMPARE.as_dict()] * compares
    champion = services.records.get(ReleaseRecord, subject.champion_release)
    baseline = Release(f"baseline-{evaluation.id}", evaluation.model, STAGING, champion.version, champion.bundle_digest)
    with _emptied(services, evaluation, Slot.BASELINE, step, "champion stopped"):
        try:
            url = step("champion started beside it", lambda: _start(services, evaluation, baseline, Slot.BASELINE))
        except DeployFailed as failure:
            message = f"ERROR: {COMPARED}: the champion v{champion.version} did not start: {failure.message}"
            return [GateResult(COMPARED, Verdict.ERROR, message).as_dict()]
        return run(replace(measured, champion_url=url, champion_version=baseline.version))


@contextmanager
def _emptied(services: Services, evaluation: Evaluation, slot: Slot, step: Step, name: str) -> Iterator[None]:
    """Empty a slot at the end of the block, as the step `name`."""
    try:
        yield
    finally:
        step(name, lambda: _stop(services, evaluation, slot))


def _start(services: Services, evaluation: Evaluation, release: Release, slot: Slot) -> str:
    """Serve a release in a slot of staging; return its URL."""
    epoch = leases.confirm(services, evaluation.model, STAGING, evaluation.id)
    services.target.prepare(release.endpoint, release.bundle_digest)
    services.target.start(release, slot, epoch=epoch)
    state = wait_settled(services, release.endpoint, slot, release.id)
    if state.url is None or not state.serves(release):
        raise DeployFailed(f"the {slot} slot does not serve {release.bundle_digest}")
    return state.url


def _time_first(services: Services, subject: Subject, url: str) -> float:
    timeout_s = subject.limits.slo.timeout_s
    return time_first_request(services.probe, url, _evaluation_set(services, subject), timeout_s=timeout_s)


def _smoke(services: Services, trial: Release, url: str) -> Results:
    return [check_smoke(services.probe, url, services.bundles.body(trial.bundle_digest), trial).as_dict()]


def _slo(services: Services, evaluation: Evaluation, subject: Subject, measured: Measured) -> Results:
    before = services.records.find(ReleaseRecord)
    snapshot, workdir = _evaluation_set(services, subject), workdir_of(services, evaluation)
    results = measure_slo(services.loads, subject.limits, measured, snapshot=snapshot, workdir=workdir)
    meanwhile = _under_way(before, services.records.find(ReleaseRecord))
    if meanwhile:
        why = f"a release was under way during the load run: {', '.join(meanwhile)}"
        unsound = GateResult("slo.validity", Verdict.INCONCLUSIVE, f"INCONCLUSIVE: slo.validity: {why}")
        results = [*without_no(results, why), unsound]
    for result in results:
        services.note(evaluation.id, result.name, result.message)
    return [result.as_dict() for result in results]


def _under_way(before: list[ReleaseRecord], after: list[ReleaseRecord]) -> list[str]:
    """Return the ids of the releases that began, went on or ended between two looks at all of them."""
    known = {record.id: record for record in before}
    return [record.id for record in after if record.state is ReleaseState.STARTING or known.get(record.id) != record]


def _stop(services: Services, evaluation: Evaluation, slot: Slot) -> None:
    epoch = leases.confirm(services, evaluation.model, STAGING, evaluation.id)
    endpoint = Endpoint(evaluation.model, STAGING)
    services.target.stop(endpoint, slot, epoch=epoch)
    wait_empty(services, endpoint, slot)


def _evaluation_set(services: Services, subject: Subject) -> Snapshot:
    return read_snapshot(evalset_path(services, subject.evalset_digest))


def evalset_path(services: Services, digest: str) -> Path:
    """Return where the evaluation set of that digest is kept."""
    return services.workdir / "evaluation-sets" / f"{digest.replace(':', '-')}.parquet"


def workdir_of(services: Services, evaluation: Evaluation) -> Path:
    """Return the directory of an evaluation's files, which its load runs leave their reports in."""
    path = services.workdir / "work" / evaluation.id
    path.mkdir(parents=True, exist_ok=True)
    return path
