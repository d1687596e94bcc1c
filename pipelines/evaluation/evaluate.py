"""Measuring a version: packaging, offline gates, the trial in staging, and the frozen report.

Staging's live release changes only for a version that passed.
"""

from dataclasses import asdict
from typing import Any

from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.promotion import OVERRIDABLE, RunState, report_verdict
from pipelines.domain.records import Evaluation, PinnedVersion, ReleaseRecord
from pipelines.domain.release import Environment
from pipelines.domain.verdict import GateResult, Verdict, overall
from pipelines.domain.version import Lifecycle
from pipelines.errors import GateError, GateFailed, Inconclusive, SlipwayError
from pipelines.evaluation.gates.offline import measure as offline
from pipelines.evaluation.reports.report import Reported, build_report, render_html
from pipelines.evaluation.trial import STAGING, Subject, evalset_path, try_in_staging, workdir_of
from pipelines.packaging.package import Packaged, make_bundle
from pipelines.packaging.snapshot import read_snapshot
from pipelines.ports import Step, Transaction
from pipelines.releases.leased import under_lease
from pipelines.releases.rollout import Change, keep_trying, put_in_service
from pipelines.releases.services import Services


def evaluate(services: Services, evaluation_id: str, step: Step) -> None:
    """Evaluate a version into staging, or stop with a report that says why."""
    evaluation = services.records.get(Evaluation, evaluation_id)

    def carry_out() -> None:
        subject = Subject(**step("packaging", lambda: _package_version(services, evaluation)))
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
    return results + try_in_staging(services, evaluation, subject, step)


def _package_version(services: Services, evaluation: Evaluation) -> dict[str, Any]:
    """Make or re-check the version's bundle, pin its digest at first sight, and return the Subject."""
    with services.records.write() as transaction:
        current = transaction.get(Evaluation, evaluation.id)
        transaction.change(current, state=RunState.RUNNING)
        transaction.audit(evaluation.requested_by, "evaluation", "intent", subject=evaluation.id)
    key = f"{evaluation.model}/{evaluation.version}"
    pinned = services.records.find(PinnedVersion, id=key)
    packaged = _package(services, evaluation, pinned[0].bundle_digest if pinned else None)
    if not pinned:
        with services.records.write() as transaction:
            if not transaction.find(PinnedVersion, id=key):
                first_sight = PinnedVersion(
                    key, evaluation.model, evaluation.version, packaged.digest,
                    packaged.evaluation.digest, services.now(),
                )  # fmt: skip
                transaction.add(first_sight)
                detail = {"version": evaluation.version, "bundle": packaged.digest}
                transaction.audit("executor", "version.pin", "outcome", subject=key, detail=detail)
        services.registry.set_tag(evaluation.model, evaluation.version, "lifecycle", Lifecycle.CANDIDATE)
    services.registry.set_tag(evaluation.model, evaluation.version, "slipway.bundle_digest", packaged.digest)
    champion = services.serving(evaluation.model, Environment.PRODUCTION)
    release = champion.id if champion else None
    return asdict(Subject(packaged.digest, packaged.evaluation.digest, release, services.policy(evaluation.model).body))


def _package(services: Services, evaluation: Evaluation, pinned: str | None) -> Packaged:
    version = services.registry.version(evaluation.model, evaluation.version)
    # The set that this version was pinned with comes first, then the newest known.
    known = services.records.find(PinnedVersion, model=evaluation.model)
    known.sort(key=lambda pin: pin.version == evaluation.version)
    fallback = next(
        (path for pin in reversed(known) if (path := evalset_path(services, pin.evalset_digest)).exists()), None
    )
    packaged = make_bundle(
        services.registry,
        services.bundles,
        version,
        pinned=pinned,
        fallback_evaluation=fallback,
        workdir=workdir_of(services, evaluation),
    )
    kept = evalset_path(services, packaged.evaluation.digest)
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".partial")
        partial.write_bytes(packaged.evaluation_path.read_bytes())
        partial.rename(kept)
    return packaged


def _offline(services: Services, evaluation: Evaluation, subject: Subject) -> list[dict[str, Any]]:
    packaged = _package(services, evaluation, subject.bundle_digest)
    champion = services.records.get(ReleaseRecord, subject.champion_release) if subject.champion_release else None
    results = offline.measure(
        offline.Measured(
            bundle=services.bundles.path(subject.bundle_digest),
            digest=subject.bundle_digest,
            body=services.bundles.body(subject.bundle_digest),
            snapshot=read_snapshot(evalset_path(services, subject.evalset_digest)),
            predictions=packaged.predictions,
            champion=services.bundles.path(champion.bundle_digest) if champion else None,
            champion_body=services.bundles.body(champion.bundle_digest) if champion else None,
        ),
        subject.limits.gates,
    )
    for result in results:
        services.note(evaluation.id, result.name, result.message)
    return [result.as_dict() for result in results]


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
        for kept in sorted(workdir_of(services, evaluation).glob(f"slo*/{name}")):
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


def _parsed(results: list[dict[str, Any]]) -> list[GateResult]:
    return [GateResult.from_dict(result) for result in results]


def _overridden(evaluation: Evaluation) -> frozenset[str]:
    return evaluation.override.gates if evaluation.override else frozenset()
