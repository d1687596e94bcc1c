"""Measuring a version: packaging, offline gates, the trial in staging, and the frozen report.

Staging's live release changes only for a version that passed.
"""

from pathlib import Path

from pipelines.domain.bundle import canonical
from pipelines.domain.description import Description
from pipelines.domain.evalset import judging_pins, set_numbers, set_owner
from pipelines.domain.events import EventKind
from pipelines.domain.figures import Figures
from pipelines.domain.policy import NEWEST, Policy
from pipelines.domain.promotion import RunState, report_verdict
from pipelines.domain.records import AddedSet, Evaluation, PinnedVersion, ReleaseRecord
from pipelines.domain.release import Environment
from pipelines.domain.report import Report
from pipelines.domain.verdict import GateResult, Verdict, overall
from pipelines.domain.version import Lifecycle
from pipelines.errors import SlipwayError, UsageError
from pipelines.evaluation.ending import Ending
from pipelines.evaluation.gates.code import gates_digest
from pipelines.evaluation.gates.registry import GATES, Gates
from pipelines.evaluation.offline import Material, Measured, ask_offline
from pipelines.evaluation.refusal import refusal_of
from pipelines.evaluation.reports.pages import described, render_card, render_html, render_summary
from pipelines.evaluation.reports.plots import read_loads
from pipelines.evaluation.reports.report import Bundles, build_report
from pipelines.evaluation.subject import (
    Subject,
    evalset_path,
    keep_evaluation_set,
    keep_reference,
    keep_rows,
    keep_training_rows,
    kept_evaluation_set,
    kept_reference,
    kept_training_rows,
    subject_step,
    workdir_of,
)
from pipelines.evaluation.trial import STAGING, Trial
from pipelines.governance.lineage import trace
from pipelines.governance.work import move
from pipelines.packaging.confined import Run
from pipelines.packaging.package import Packaged, kept_predictions, make_bundle
from pipelines.ports import JobBounds, Step, Transaction
from pipelines.releases import leases
from pipelines.releases.leased import under_lease
from pipelines.releases.rollout import Change, put_in_service
from pipelines.releases.services import Services
from pipelines.releases.waiting import keep_trying, read


def evaluate(services: Services, evaluation_id: str, step: Step, gates: Gates = GATES) -> None:
    """Evaluate a version into staging, or stop with a report that says why."""
    evaluation = read(services, Evaluation, evaluation_id)
    ending = Ending(services, evaluation)
    measuring = ending.before_each(step)

    def carry_out() -> None:
        subject = subject_step(measuring, "packaging", evaluation, lambda: _package_version(services, ending))
        answer = measuring("offline gates", lambda: _offline(services, ending, subject, gates).as_json())
        offline = Measured.from_json(answer)
        results = offline.results
        if overall(results, overridden=_overridden(evaluation)).goes_on:
            results += Trial(services, evaluation, subject, step, ending).measure(gates)
        measuring("report written", lambda: _report(services, evaluation_id, subject, results, offline.figures))
        step("report attached", lambda: _attach(services, evaluation_id, gates))
        verdict = overall(results, overridden=_overridden(evaluation))
        if not verdict.goes_on:
            raise refusal_of(evaluation, verdict, results, gates, default_model=services.model)
        change = _staging_change(read(services, Evaluation, evaluation_id))
        put_in_service(services, change, step, finish=_finish)

    under_lease(services, evaluation, step, carry_out=carry_out)


def _package_version(services: Services, ending: Ending) -> Subject:
    """Make or re-check the version's bundle, and pin its digest at first sight."""
    evaluation = ending.evaluation
    with services.records.write() as transaction:
        current = transaction.get(Evaluation, evaluation.id)
        if current.state is RunState.REQUESTED:
            move(transaction, current, RunState.RUNNING)
        transaction.audit(evaluation.requested_by, "evaluation", "intent", subject=evaluation.id)
    key = f"{evaluation.model}/{evaluation.version}"
    pinned = services.records.find(PinnedVersion, id=key)
    packaged = _package(services, ending, pinned[0].bundle_digest if pinned else None)
    if not pinned:
        with services.records.write() as transaction:
            if not transaction.find(PinnedVersion, id=key):
                first_sight = PinnedVersion(
                    key, evaluation.model, evaluation.version, packaged.digest,
                    packaged.evaluation_digest, services.now(),
                )  # fmt: skip
                transaction.add(first_sight)
                detail = {"version": evaluation.version, "bundle": packaged.digest}
                transaction.audit("executor", "version.pin", "outcome", subject=key, detail=detail)
                transaction.emit(EventKind.VERSION_PINNED, subject=key, model=evaluation.model, detail=detail)
                trace(transaction, first_sight, packaged.body["provenance"])
        services.registry.set_tag(evaluation.model, evaluation.version, "lifecycle", Lifecycle.CANDIDATE)
    services.registry.set_tag(evaluation.model, evaluation.version, "slipway.bundle_digest", packaged.digest)
    champion = services.serving(evaluation.model, Environment.PRODUCTION)
    policy, own = services.policy(evaluation.model), packaged.evaluation_digest
    in_force = own if policy.evaluation.set == NEWEST else policy.evaluation.set
    brings_it = packaged.own_evaluation and in_force == own
    named = {f"{name} ({each.digest})": each.digest for name, each in policy.evaluation.sets.items()}
    for what, digest in {in_force: in_force, **named}.items():
        if not evalset_path(services, digest).exists():
            raise UsageError(
                f"the policy's evaluation set {what} is not kept here",
                next=f'name one that "slipway evalset list" shows, or write evaluation.set: {NEWEST}',
            )
    pins = services.records.find(PinnedVersion, model=evaluation.model)
    added = services.records.find(AddedSet, model=evaluation.model, state=RunState.DONE)
    return Subject(
        model=evaluation.model,
        version=evaluation.version,
        bundle_digest=packaged.digest,
        evalset_digest=in_force,
        evalset_version=evaluation.version if brings_it else set_owner(pins, in_force),
        evalset_number=set_numbers(pins, added).get(in_force),
        own_evalset=own if packaged.own_evaluation and not brings_it else None,
        predictions=packaged.predictions,
        rows=keep_rows(services, evaluation, packaged.rows),
        champion_release=champion.id if champion else None,
        policy=policy,
        gates_digest=gates_digest(),
    )


def _package(services: Services, ending: Ending, pinned: str | None) -> Packaged:
    evaluation = ending.evaluation
    version = services.registry.version(evaluation.model, evaluation.version)

    def fallback() -> Path | None:
        for pin in _judging_pins(services, evaluation):
            if evalset_path(services, pin.evalset_digest).exists():
                return kept_evaluation_set(services, pin.evalset_digest)
        return None

    packaged = make_bundle(
        services.registry,
        services.bundles,
        _confined(services, services.policy(evaluation.model), ending),
        version,
        pinned=pinned,
        fallback_evaluation=fallback,
        workdir=workdir_of(services, evaluation),
    )
    keep_evaluation_set(services, packaged.evaluation, packaged.evaluation_digest)
    datasets = packaged.body["provenance"]["datasets"]
    if packaged.training_rows:
        keep_training_rows(services, packaged.training_rows, datasets["training_rows"])
    if packaged.reference:
        keep_reference(services, packaged.reference, datasets["reference"])
    return packaged


def _judging_pins(services: Services, evaluation: Evaluation) -> list[PinnedVersion]:
    champion = services.serving(evaluation.model, Environment.PRODUCTION)
    return judging_pins(
        services.records.find(PinnedVersion, model=evaluation.model),
        services.records.find(Evaluation, model=evaluation.model, verdict=Verdict.PASSED),
        version=evaluation.version,
        champion=champion.version if champion else None,
    )


def _offline(services: Services, ending: Ending, subject: Subject, gates: Gates) -> Measured:
    """Measure what needs no running service."""
    champion = services.records.get(ReleaseRecord, subject.champion_release) if subject.champion_release else None
    workdir = workdir_of(services, ending.evaluation)
    material = Material(
        digest=subject.bundle_digest,
        candidate=services.bundles.path(subject.bundle_digest),
        champion=services.bundles.path(champion.bundle_digest) if champion else None,
        evaluation=kept_evaluation_set(services, subject.evalset_digest),
        sets={
            name: kept_evaluation_set(services, named.digest) for name, named in subject.policy.evaluation.sets.items()
        },
        own=kept_evaluation_set(services, subject.own_evalset) if subject.own_evalset else None,
        accepted=_accepted(services, ending.evaluation, subject) if champion else None,
        predictions=kept_predictions(
            services.registry,
            lambda: services.registry.version(subject.model, subject.version),
            digest=subject.predictions,
            workdir=workdir,
        ),
        training_rows=kept_training_rows(services, subject.bundle_digest, workdir / "candidate"),
        champion_rows=kept_training_rows(services, champion.bundle_digest, workdir / "champion") if champion else None,
        reference=kept_reference(services, subject.bundle_digest, workdir / "candidate"),
        champion_reference=kept_reference(services, champion.bundle_digest, workdir / "champion") if champion else None,
    )
    found = ask_offline(_confined(services, subject.policy, ending), gates, subject.policy, material)
    for result in found.results:
        services.note(ending.evaluation.id, result.name, result.message)
    return found


def _accepted(services: Services, evaluation: Evaluation, subject: Subject) -> Path | None:
    """Return the set that judged production, or the last version that passed; None where that is the one in force."""
    for pin in _judging_pins(services, evaluation):
        if pin.version != subject.version and evalset_path(services, pin.evalset_digest).exists():
            same = pin.evalset_digest == subject.evalset_digest
            return None if same else kept_evaluation_set(services, pin.evalset_digest)
    return None


def _confined(services: Services, policy: Policy, ending: Ending) -> Run:
    """Return what runs a confined job within the bounds of a policy, for as long as the evaluation may go on."""
    limits = policy.evaluation
    bounds = JobBounds(limits.job_s, limits.job_memory_mb)
    return lambda task, files: services.jobs.run(task, files, bounds, check=ending.check)


def _report(
    services: Services, evaluation_id: str, subject: Subject, results: list[GateResult], figures: Figures | None
) -> None:
    """Freeze what was measured: the report's digest is what people approve."""
    evaluation = services.records.get(Evaluation, evaluation_id)
    champion = services.records.get(ReleaseRecord, subject.champion_release) if subject.champion_release else None
    bundles = Bundles(
        _description(services, subject.bundle_digest),
        _description(services, champion.bundle_digest) if champion else None,
    )
    report = build_report(
        subject, results=results, figures=figures, champion=champion, bundles=bundles, created_at=services.now()
    )
    with services.records.write() as transaction:
        # An executor that was replaced writes over no report that people may have approved by now.
        leases.confirm(services, evaluation.model, STAGING, evaluation_id, within=transaction)
        transaction.change(
            evaluation,
            bundle_digest=subject.bundle_digest,
            report=report.as_json(),
            report_digest=report.digest,
            verdict=str(report.verdict),
        )
        detail = {"version": evaluation.version, "verdict": str(report.verdict), "report": report.digest}
        transaction.emit(EventKind.VERSION_MEASURED, subject=evaluation_id, model=evaluation.model, detail=detail)


def _description(services: Services, digest: str) -> Description:
    return Description.read(services.bundles.body(digest))


def _attach(services: Services, evaluation_id: str, gates: Gates) -> None:
    """Put the report where people look at the version: files, the summary in its description, and tags."""
    evaluation = services.records.get(Evaluation, evaluation_id)
    if evaluation.report is None or evaluation.report_digest is None:
        raise SlipwayError(f"evaluation {evaluation_id} has no report to attach")
    report, report_digest = Report.read(evaluation.report), evaluation.report_digest
    kept = _of_the_load_runs(workdir_of(services, evaluation), gates)
    loads = read_loads({name: content for name, content in kept.items() if name.endswith(".json")})
    files = {
        "report.json": canonical(evaluation.report),
        "report.html": render_html(report, report_digest, loads).encode(),
        **kept,
    }
    description = _description(services, report.bundle_digest)
    tags = {"slipway.report_digest": report_digest, "slipway.verdict": str(report.verdict)}
    released = services.records.find(ReleaseRecord, model=evaluation.model, version=evaluation.version)
    if report_verdict(report, evaluation.override) is Verdict.FAILED and not released:
        tags["lifecycle"] = Lifecycle.REJECTED

    def write() -> None:
        version = services.registry.version(evaluation.model, evaluation.version)
        said = services.registry.run_tags(version.run_id) if version.run_id else {}
        card = render_card(report, report_digest, description, said)
        services.registry.attach_evidence(version, files | {"model-card.md": card.encode()})
        told = described(version.description, render_summary(report, report_digest))
        services.registry.set_description(evaluation.model, evaluation.version, told)
        for key, value in tags.items():
            services.registry.set_tag(evaluation.model, evaluation.version, key, value)

    keep_trying(services, write)


def _of_the_load_runs(workdir: Path, gates: Gates) -> dict[str, bytes]:
    """Return what the load runs of an evaluation have left for people, by its name among the evidence."""
    pages = [f"{gate.name}*/{name}" for gate in gates.of_the_service for name in ("report.html", "result.json")]
    found = [kept for page in pages for kept in sorted(workdir.glob(page))]
    return {f"{kept.parent.name}{kept.suffix}": kept.read_bytes() for kept in found}


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
    move(transaction, evaluation, RunState.DONE, ended_at=services.now())
    detail = {"verdict": evaluation.verdict, "report": evaluation.report_digest}
    transaction.audit("executor", "evaluation", "outcome", subject=evaluation.id, detail=detail)


def _overridden(evaluation: Evaluation) -> frozenset[str]:
    return evaluation.override.gates if evaluation.override else frozenset()
