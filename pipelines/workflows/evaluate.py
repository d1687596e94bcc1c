"""Measuring a version: intake, offline gates, staging's trial slot, smoke, SLO, and the frozen report.

Staging's live release changes only for a version that passed; whatever happens, the slots beside it end empty.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.policy import Policy
from pipelines.domain.promotion import OVERRIDABLE, RunState, report_verdict
from pipelines.domain.records import Evaluation, PinnedVersion, ReleaseRecord
from pipelines.domain.release import Environment, Release, Slot
from pipelines.domain.verdict import GateResult, Verdict, overall
from pipelines.domain.version import Lifecycle
from pipelines.errors import DeployFailed, GateError, GateFailed, Inconclusive, SlipwayError
from pipelines.evidence import Reported, build_report, render_html
from pipelines.gates import offline
from pipelines.gates.slo import Measured, measure_slo, time_first_request
from pipelines.gates.smoke import check_smoke
from pipelines.intake import Intake, make_bundle
from pipelines.ports import Step, Transaction
from pipelines.snapshot import read_snapshot
from pipelines.workflows import leases
from pipelines.workflows.leased import under_lease
from pipelines.workflows.services import Services
from pipelines.workflows.serving import Change, keep_trying, put_in_service, wait_empty, wait_settled

STAGING = Environment.STAGING
NOTHING_TO_COMPARE = GateResult(
    "slo.comparison", Verdict.NOT_APPLICABLE, "slo.comparison: no champion yet to compare with"
)


@dataclass(frozen=True)
class Subject:
    """What is measured, fixed at intake: the bundle, the evaluation set, and the release compared with."""

    bundle_digest: str
    evalset_digest: str
    champion_release: str | None
    policy: dict[str, Any]

    @property
    def limits(self) -> Policy:
        """The policy that was in force at intake: one report is judged by one policy."""
        return Policy.parse(self.policy)


def evaluate(services: Services, evaluation_id: str, step: Step) -> None:
    """Evaluate a version into staging, or stop with a report that says why."""
    evaluation = services.records.get(Evaluation, evaluation_id)

    def carry_out() -> None:
        subject = Subject(**step("intake", lambda: _take_in(services, evaluation)))
        results = _measure(services, evaluation, subject, step)
        step("report written", lambda: _report(services, evaluation_id, subject, results))
        step("report attached", lambda: _attach(services, evaluation_id))
        verdict = overall(_parsed(results), overridden=_overridden(evaluation))
        if not verdict.goes_on:
            raise _refusal(verdict, results)
        change = _staging_change(services.records.get(Evaluation, evaluation_id))
        put_in_service(services, change, step, finish=_finish)

    under_lease(services, evaluation, STAGING, step, carry_out=carry_out)


def _measure(services: Services, evaluation: Evaluation, subject: Subject, step: Step) -> list[dict[str, Any]]:
    """Return the results of all gates, stopping early where going on would prove nothing."""
    results = step("offline gates", lambda: _offline(services, evaluation, subject))
    if not overall(_parsed(results), overridden=_overridden(evaluation)).goes_on:
        return results
    trial = _trial_release(evaluation, subject.bundle_digest)
    try:
        url = step("trial started in staging", lambda: _start(services, evaluation, trial, Slot.TRIAL))
        first_ms = step("first request timed", lambda: _time_first(services, subject, url))
        results = results + step("smoke and contract", lambda: _smoke(services, trial, url))
        if overall(_parsed(results), overridden=_overridden(evaluation)).goes_on:
            measured = Measured(url, trial.version, first_request_ms=first_ms)
            results = results + _load(services, evaluation, subject, measured, step)
    except DeployFailed as failure:
        message = f"FAIL: smoke: version {evaluation.version} did not start: {failure.message}"
        return [*results, GateResult("smoke", Verdict.FAILED, message).as_dict()]
    finally:
        step("trial stopped", lambda: _stop(services, evaluation, Slot.TRIAL))
    return results


def _load(
    services: Services, evaluation: Evaluation, subject: Subject, measured: Measured, step: Step
) -> list[dict[str, Any]]:
    """Measure the SLO, in turn with the champion's bundle in staging's baseline slot where the policy compares."""

    def run(measured: Measured) -> list[dict[str, Any]]:
        return step("latency SLO under load", lambda: _slo(services, evaluation, subject, measured))

    compares = subject.limits.slo.comparison is not None
    if not compares or subject.champion_release is None:
        return run(measured) + [NOTHING_TO_COMPARE.as_dict()] * compares
    champion = services.records.get(ReleaseRecord, subject.champion_release)
    baseline = Release(f"baseline-{evaluation.id}", evaluation.model, STAGING, champion.version, champion.bundle_digest)
    try:
        url = step("champion started beside it", lambda: _start(services, evaluation, baseline, Slot.BASELINE))
        return run(replace(measured, champion_url=url, champion_version=baseline.version))
    except DeployFailed as failure:
        message = f"ERROR: slo.comparison: the champion v{champion.version} did not start: {failure.message}"
        return [GateResult("slo.comparison", Verdict.ERROR, message).as_dict()]
    finally:
        step("champion stopped", lambda: _stop(services, evaluation, Slot.BASELINE))


def _take_in(services: Services, evaluation: Evaluation) -> dict[str, Any]:
    """Make or re-check the version's bundle, pin its digest at first sight, and return the Subject."""
    with services.records.write() as transaction:
        current = transaction.get(Evaluation, evaluation.id)
        transaction.change(current, state=RunState.RUNNING)
        transaction.audit(evaluation.requested_by, "evaluation", "intent", subject=evaluation.id)
    key = f"{evaluation.model}/{evaluation.version}"
    pinned = services.records.find(PinnedVersion, id=key)
    intake = _intake(services, evaluation, pinned[0].bundle_digest if pinned else None)
    if not pinned:
        with services.records.write() as transaction:
            if not transaction.find(PinnedVersion, id=key):
                first_sight = PinnedVersion(
                    key, evaluation.model, evaluation.version, intake.digest,
                    intake.evaluation.digest, services.now(),
                )  # fmt: skip
                transaction.add(first_sight)
                detail = {"version": evaluation.version, "bundle": intake.digest}
                transaction.audit("executor", "version.pin", "outcome", subject=key, detail=detail)
        services.registry.set_tag(evaluation.model, evaluation.version, "lifecycle", Lifecycle.CANDIDATE)
    services.registry.set_tag(evaluation.model, evaluation.version, "slipway.bundle_digest", intake.digest)
    champion = services.serving(evaluation.model, Environment.PRODUCTION)
    release = champion.id if champion else None
    return asdict(Subject(intake.digest, intake.evaluation.digest, release, services.policy().body))


def _intake(services: Services, evaluation: Evaluation, pinned: str | None) -> Intake:
    version = services.registry.version(evaluation.model, evaluation.version)
    # The set that this version was pinned with comes first, then the newest known.
    known = services.records.find(PinnedVersion, model=evaluation.model)
    known.sort(key=lambda pin: pin.version == evaluation.version)
    fallback = next(
        (path for pin in reversed(known) if (path := _evalset_path(services, pin.evalset_digest)).exists()), None
    )
    intake = make_bundle(
        services.registry,
        services.bundles,
        version,
        pinned=pinned,
        fallback_evaluation=fallback,
        workdir=_workdir(services, evaluation),
    )
    kept = _evalset_path(services, intake.evaluation.digest)
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        partial.write_bytes(intake.evaluation_path.read_bytes())
        partial.rename(kept)
    return intake


def _offline(services: Services, evaluation: Evaluation, subject: Subject) -> list[dict[str, Any]]:
    intake = _intake(services, evaluation, subject.bundle_digest)
    champion = services.records.get(ReleaseRecord, subject.champion_release) if subject.champion_release else None
    results = offline.measure(
        offline.Measured(
            bundle=services.bundles.path(subject.bundle_digest),
            digest=subject.bundle_digest,
            body=services.bundles.body(subject.bundle_digest),
            snapshot=read_snapshot(_evalset_path(services, subject.evalset_digest)),
            predictions=intake.predictions,
            champion=services.bundles.path(champion.bundle_digest) if champion else None,
            champion_body=services.bundles.body(champion.bundle_digest) if champion else None,
        ),
        subject.limits.gates,
    )
    for result in results:
        services.note(evaluation.id, result.name, result.message)
    return [result.as_dict() for result in results]


def _start(services: Services, evaluation: Evaluation, release: Release, slot: Slot) -> str:
    """Serve a release in a slot of staging; return its URL."""
    epoch = leases.confirm(services, evaluation.model, STAGING, evaluation.id)
    services.target.prepare(release.bundle_digest)
    services.target.start(release, slot, epoch=epoch)
    state = wait_settled(services, STAGING, slot, release.id)
    if state.url is None or not state.serves(release):
        raise DeployFailed(f"the {slot} slot does not serve {release.bundle_digest}")
    return state.url


def _time_first(services: Services, subject: Subject, url: str) -> float | None:
    snapshot = read_snapshot(_evalset_path(services, subject.evalset_digest))
    return time_first_request(services.probe, url, snapshot)


def _smoke(services: Services, trial: Release, url: str) -> list[dict[str, Any]]:
    return [check_smoke(services.probe, url, services.bundles.body(trial.bundle_digest), trial).as_dict()]


def _slo(services: Services, evaluation: Evaluation, subject: Subject, measured: Measured) -> list[dict[str, Any]]:
    begun = services.now()
    snapshot = read_snapshot(_evalset_path(services, subject.evalset_digest))
    workdir = _workdir(services, evaluation)
    results = measure_slo(services.loads, subject.limits, measured, snapshot=snapshot, workdir=workdir)
    meanwhile = [r for r in services.records.find(ReleaseRecord) if r.created_at >= begun]
    if meanwhile:
        message = f"INCONCLUSIVE: {meanwhile[0].id} was released on this machine during the load run"
        results.append(GateResult("slo.validity", Verdict.INCONCLUSIVE, message))
    for result in results:
        services.note(evaluation.id, result.name, result.message)
    return [result.as_dict() for result in results]


def _stop(services: Services, evaluation: Evaluation, slot: Slot) -> None:
    epoch = leases.confirm(services, evaluation.model, STAGING, evaluation.id)
    services.target.stop(STAGING, slot, epoch=epoch)
    wait_empty(services, STAGING, slot)


def _report(services: Services, evaluation_id: str, subject: Subject, results: list[dict[str, Any]]) -> None:
    """Freeze what was measured: the report's digest is what people approve."""
    evaluation = services.records.get(Evaluation, evaluation_id)
    champion = services.records.get(ReleaseRecord, subject.champion_release) if subject.champion_release else None
    report = build_report(
        Reported(evaluation.model, evaluation.version, subject.bundle_digest, subject.evalset_digest),
        results=_parsed(results),
        policy=subject.limits,
        champion=champion,
        created_at=services.now(),
    )
    with services.records.write() as transaction:
        transaction.change(
            evaluation,
            bundle_digest=subject.bundle_digest,
            report=report,
            report_digest=digest_of(canonical(report)),
            verdict=report["verdict"],
        )


def _attach(services: Services, evaluation_id: str) -> None:
    evaluation = services.records.get(Evaluation, evaluation_id)
    if evaluation.report is None or evaluation.report_digest is None:
        raise SlipwayError(f"evaluation {evaluation_id} has no report to attach")
    report, report_digest = evaluation.report, evaluation.report_digest
    files = {"report.json": canonical(report), "report.html": render_html(report, report_digest).encode()}
    for name in ("report.html", "result.json"):
        for kept in sorted(_workdir(services, evaluation).glob(f"slo*/{name}")):
            files[f"{kept.parent.name}{kept.suffix}"] = kept.read_bytes()
    tags = {"slipway.report_digest": report_digest, "slipway.verdict": report["verdict"]}
    released = services.records.find(ReleaseRecord, model=evaluation.model, version=evaluation.version)
    if report_verdict(report, evaluation.override) is Verdict.FAILED and not released:
        tags["lifecycle"] = Lifecycle.REJECTED

    def write() -> None:
        version = services.registry.version(evaluation.model, evaluation.version)
        services.registry.attach_evidence(version, files)
        for key, value in tags.items():
            services.registry.set_tag(evaluation.model, evaluation.version, key, value)

    keep_trying(services, write)


def _refusal(verdict: Verdict, results: list[dict[str, Any]]) -> SlipwayError:
    """Return the refusal of an evaluation that does not go on: every gate's message that stopped it."""
    stopped_by = [result for result in results if not Verdict(result["verdict"]).goes_on]
    stopping = [result["message"] for result in stopped_by]
    kinds: dict[Verdict, type[SlipwayError]] = {Verdict.FAILED: GateFailed, Verdict.ERROR: GateError}
    overridable = all(result["name"].split(".")[0] in OVERRIDABLE for result in stopped_by)
    hint = "train a better version" if verdict is Verdict.FAILED else "measure again when the machine is quiet"
    if overridable:
        hint += ', or name the gates and why: "make promote VERSION=n OVERRIDE=... GATES=..."'
    return kinds.get(verdict, Inconclusive)("\n".join(stopping), next=hint)


def _staging_change(evaluation: Evaluation) -> Change:
    evidence = {"report_digest": evaluation.report_digest, "verdict": evaluation.verdict}
    return Change(
        holder=evaluation.id,
        kind="staging",
        model=evaluation.model,
        environment=STAGING,
        version=evaluation.version,
        bundle_digest=evaluation.bundle_digest or "",
        actor=evaluation.requested_by,
        evidence=evidence,
    )


def _finish(
    transaction: Transaction, services: Services, change: Change, served: ReleaseRecord, previous: ReleaseRecord | None
) -> None:
    evaluation = transaction.get(Evaluation, change.holder)
    transaction.change(evaluation, state=RunState.DONE, ended_at=services.now())
    detail = {"verdict": evaluation.verdict, "report": evaluation.report_digest}
    transaction.audit("executor", "evaluation", "outcome", subject=evaluation.id, detail=detail)


def _trial_release(evaluation: Evaluation, bundle_digest: str) -> Release:
    return Release(f"trial-{evaluation.id}", evaluation.model, STAGING, evaluation.version, bundle_digest)


def _parsed(results: list[dict[str, Any]]) -> list[GateResult]:
    return [GateResult.from_dict(result) for result in results]


def _overridden(evaluation: Evaluation) -> frozenset[str]:
    return evaluation.override.gates if evaluation.override else frozenset()


def _workdir(services: Services, evaluation: Evaluation) -> Path:
    path = services.workdir / "work" / evaluation.id
    path.mkdir(parents=True, exist_ok=True)
    return path


def _evalset_path(services: Services, digest: str) -> Path:
    return services.workdir / "evaluation-sets" / f"{digest.replace(':', '-')}.parquet"
