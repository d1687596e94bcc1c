"""Checks the invariants that must hold whatever broke: reads everything, changes nothing.

I1 production serves only what was approved and recorded · I2 alias, record and replicas agree · I3 one
release workflow an environment · I4 the audit chain holds · I5 no request is lost in a roll · I6 the way back exists ·
I7 no secret can be read by others · I8 work ends in time · I9 in containers, nobody gains rights that a process was not
given.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.domain import audit
from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.promotion import PastRelease, ReleaseState, RunState, report_verdict, rollback_target
from pipelines.domain.records import Approval, Evaluation, Lease, Promotion, ReleaseRecord
from pipelines.domain.release import Endpoint, Environment, Slot
from pipelines.domain.report import Report
from pipelines.errors import NoRollbackTarget, RegistryUnavailable, SlipwayError, Undecided, UsageError
from pipelines.governance.models import served_models
from pipelines.governance.standing import contradicted, half_undone, serving_release
from pipelines.operator.privacy import find_readable_secrets
from pipelines.ports import Bundles, Checkpoints, Records, Target
from pipelines.releases.alias import is_deleted
from pipelines.releases.leased import KINDS
from pipelines.releases.mending import mending
from pipelines.releases.stalled import stalled_work
from pipelines.settings.models import model_name
from pipelines.settings.settings import Settings

PRODUCTION = Environment.PRODUCTION

# What may come of rows that nobody but a person or a broken disk can have written: they are what a doctor is there for.
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_NEXT = {
    "I1": 'find out who started what runs there: "slipway audit", "slipway logs"; then "slipway rollback"',
    "I2": "an alias that was moved by hand: set it back in MLflow to the version that is named; "
    'a version that was deleted: "slipway promote" another; '
    'a replica that differs: "slipway logs"; no answer: "slipway up"; half-done: the executor undoes it by itself',
    "I3": '"slipway up": an executor undoes or resumes it',
    "I4": "leave the home as it is, and compare it with a copy of the checkpoints and a backup",
    "I6": 'delete the folder of the bundle that is named; "make deploy-staging VERSION=n" builds it again from what '
    'MLflow has of the version. If MLflow has it no more: "slipway promote" another version',
    "I7": '"slipway up" closes the home; give a token that stands in a log a new value',
    "I8": '"slipway up", then "slipway status"; the executor undoes what nobody works on',
    "I9": 'put "no-new-privileges": true into /etc/docker/daemon.json, and start the engine again',
}


@dataclass(frozen=True)
class Patient:
    """A model that is examined; `aliases` reads alias -> version from the registry, `is_deleted` whether that lost one.

    `process` is what the kernel says of a container's first process, None outside of containers.
    """

    model: str
    records: Records
    checkpoints: Checkpoints
    target: Target
    bundles: Bundles
    aliases: Callable[[str], dict[str, str]]
    is_deleted: Callable[[str, str], bool]
    process: Path | None = None
    now: Callable[[], str] = lambda: datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Invariant:
    """One invariant: `holds` is None when it could not be measured; `next` says what to do when it does not hold.

    What nothing records is not `measurable` here at all.
    """

    id: str
    holds: bool | None
    detail: str
    next: str = ""
    measurable: bool = True


def run_doctor(settings: Settings, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return `invariants`, each with id, holds and detail, and `open_intents`, the intents that were cut off."""
    from pipelines.wiring.targets import open_installation

    if not settings.home.exists():
        raise UsageError(f"there is no {settings.home}", next='run "make up" first')
    if settings.runtime is None:
        told = open_installation(settings, environ).doctor() or _examined(settings)
        told["invariants"] = sorted(
            [*told["invariants"], vars(examine_home(settings))], key=lambda each: int(each["id"].removeprefix("I"))
        )
        return told
    return _examined(settings)


def examine_home(settings: Settings) -> Invariant:
    """Return I7: whether others could read a secret of this home."""
    try:
        found = find_readable_secrets(settings)
    except OSError as error:
        return Invariant("I7", None, f"can't be measured: {error}", _NEXT["I7"])
    return _told("I7", not found, "; ".join(found) or "no secret of this home can be read by others")


def _examined(settings: Settings) -> dict[str, Any]:
    from pipelines.wiring.stores import open_bundles, open_checkpoints, open_records, open_versions
    from pipelines.wiring.targets import open_target

    records = open_records(settings)
    versions = open_versions(settings)
    first = Patient(
        model=model_name(settings.project),
        records=records,
        checkpoints=open_checkpoints(settings),
        target=open_target(settings),
        bundles=open_bundles(settings),
        aliases=versions.aliases,
        is_deleted=partial(is_deleted, versions.resolve),
        process=Path("/proc/1/status") if settings.runtime else None,
    )
    patients = [replace(first, model=model) for model in served_models(records, first.model)]
    return {
        "invariants": [vars(invariant) for invariant in examine(patients)],
        "open_intents": [vars(entry) for entry in _open_intents(records)],
    }


def _open_intents(records: Records) -> list[audit.Entry]:
    try:
        return audit.open_intents(records.audit_trail())
    except SlipwayError:
        # I4 has said why the trail can't be read.
        return []


def examine(patients: Sequence[Patient]) -> list[Invariant]:
    """Return every invariant of an installation, measured on its own: of each model, or once for all of them."""
    of_each = {"I1": _approved_only, "I2": _agreement, "I3": _one_release_at_a_time, "I6": _way_back}
    of_all = {
        "I4": _audit_holds,
        "I8": _work_ends,
        **({"I9": _no_new_rights} if patients[0].process else {}),
    }
    unrecorded = "no request is counted while a release is rolled out; the benchmarks do"
    lost = Invariant("I5", None, unrecorded, '"make bench NAME=swap"', measurable=False)
    found = [_joined([(each.model, _measured(id, check, each)) for each in patients]) for id, check in of_each.items()]
    found += [_measured(id, check, patients[0]) for id, check in of_all.items()]
    return sorted([*found, lost], key=lambda invariant: invariant.id)


def _joined(found: Sequence[tuple[str, Invariant]]) -> Invariant:
    """Return one invariant of several models: it holds where it holds for all, and says which it is about."""
    if len(found) == 1:
        return found[0][1]
    worst = min((each for _, each in found), key=lambda each: (each.holds is True, each.holds is None))
    return replace(worst, detail=" | ".join(f"{model}: {each.detail}" for model, each in found))


def _measured(id: str, check: Callable[[Patient], tuple[bool, str]], patient: Patient) -> Invariant:
    try:
        holds, detail = check(patient)
    except SlipwayError as error:
        return Invariant(id, None, f"can't be measured: {error.message}", error.next)
    except _DAMAGE as error:
        return Invariant(id, None, f"can't be measured: what is recorded is damaged: {error!r}", _NEXT["I4"])
    return _told(id, holds, detail)


def _evidence(record: ReleaseRecord | Approval, name: str) -> object:
    if name not in record.evidence:
        kind = "releases" if isinstance(record, ReleaseRecord) else "approvals"
        raise Undecided(f"row {record.id} of {kind} is damaged: its evidence has no {name}", next=_NEXT["I4"])
    return record.evidence[name]


def _told(id: str, holds: bool, detail: str) -> Invariant:
    return Invariant(id, holds, detail, "" if holds else _NEXT[id])


def _approved_only(patient: Patient) -> tuple[bool, str]:
    release = serving_release(patient.records, patient.model, PRODUCTION)
    state = patient.target.observe(Endpoint(patient.model, PRODUCTION), Slot.LIVE)
    named = release.bundle_digest if release else None
    others = [r.name for r in state.replicas if r.digest and r.digest != named]
    if others and not _lease_holder(patient, PRODUCTION):
        recorded = f"that is not release {release.id}" if release else "that no record names"
        return False, f"{', '.join(others)} serve something {recorded}"
    if release is None:
        return True, "nothing is released in production"
    if wrong := contradicted(patient.records, release):
        return False, wrong
    origin = release
    while origin.restores:
        origin = patient.records.get(ReleaseRecord, origin.restores)
    return _evidence_holds(patient.records, origin)


def _evidence_holds(records: Records, release: ReleaseRecord) -> tuple[bool, str]:
    """Judge a release by what was recorded when it was released, not by the policy of today."""
    promotion = records.get(Promotion, release.change_id)
    evaluation = records.get(Evaluation, promotion.evaluation_id)
    given = records.find(Approval, promotion_id=promotion.id, approved=True)
    approved_by = [a.person for a in given if a.person != promotion.requested_by]
    if not approved_by:
        return False, f"release {release.id} has no approval by another person"
    approved = _evidence(release, "report_digest")
    if evaluation.report is None or digest_of(canonical(evaluation.report)) != approved:
        return False, f"the report of release {release.id} was changed after its approval"
    if any(_evidence(each, "report_digest") != approved for each in given):
        return False, f"release {release.id} was approved on another report"
    told = [evaluation.report, *(a.evidence for a in given)]
    if any(each.get("bundle_digest") != release.bundle_digest for each in told):
        return False, f"release {release.id} has another bundle than its report or an approval"
    if not report_verdict(Report.read(evaluation.report), promotion.override).goes_on:
        return False, f"the report of release {release.id} is {evaluation.verdict}"
    named = f", overriding {', '.join(promotion.override_gates)}" if promotion.override_gates else ""
    return True, f"version {release.version} was approved by {', '.join(approved_by)}{named}"


def _agreement(patient: Patient) -> tuple[bool, str]:
    aliases = patient.aliases(patient.model)
    told = []
    for environment in Environment:
        holder = _lease_holder(patient, environment)
        if holder:
            told.append(f"{environment}: {holder} is under way")
            continue
        left = half_undone(patient.records, Endpoint(patient.model, environment))
        if left:
            return False, f"version {left[-1].version} came to nothing in {environment} and is not undone yet"
        release = serving_release(patient.records, patient.model, environment)
        wanted = release.version if release else None
        if wanted and aliases.get(environment) is None and patient.is_deleted(patient.model, wanted):
            return False, f"version {wanted}, which {environment} serves, is deleted from MLflow: no alias can say it"
        if aliases.get(environment) != wanted:
            return False, f"@{environment} is version {aliases.get(environment)}, the record says {wanted}"
        state = patient.target.observe(Endpoint(patient.model, environment), Slot.LIVE)
        if release and not state.serves(release.release):
            return False, f"not every replica of {environment} serves version {wanted}"
        served = sorted({replica.version for replica in state.replicas if replica.version})
        if not release and served:
            return False, f"nothing is released in {environment}, but version {', '.join(served)} is served"
        told.append(f"{environment}: version {wanted}" if wanted else f"{environment}: no release")
    return True, "; ".join(told)


def _one_release_at_a_time(patient: Patient) -> tuple[bool, str]:
    mine = [f"{patient.model}/{environment}" for environment in Environment]
    held = [lease for lease in patient.records.find(Lease) if lease.holder and lease.id in mine]
    for environment in Environment:
        holder = _lease_holder(patient, environment)
        where = {"model": patient.model, "environment": environment}
        starting = patient.records.find(ReleaseRecord, **where, state=ReleaseState.STARTING)
        strangers = [r.change_id for r in starting if r.change_id != holder]
        if strangers:
            return False, f"{', '.join(strangers)} began a release in {environment} without its lease"
    return True, ", ".join(f"{lease.id} held by {lease.holder}" for lease in held) or "no lease is held"


def _audit_holds(patient: Patient) -> tuple[bool, str]:
    checkpoints = patient.checkpoints.checkpoints()
    checked = audit.prove(patient.records.audit_trail(), checkpoints)
    return checked.valid, checked.detail


def _way_back(patient: Patient) -> tuple[bool, str]:
    for release in (serving_release(patient.records, patient.model, each) for each in Environment):
        if release and (damage := _damage(patient, release.bundle_digest)):
            return False, f"the bundle of version {release.version}, which {release.environment} serves, {damage}"
    history = patient.records.find(ReleaseRecord, model=patient.model, environment=PRODUCTION)
    past = [PastRelease(r.id, r.version, r.bundle_digest, r.state, r.restores) for r in history]
    try:
        target = rollback_target(past)
    except NoRollbackTarget as error:
        return True, f"nothing to go back to: {error.message}"
    if damage := _damage(patient, target.bundle_digest):
        return False, f"the bundle of version {target.version} {damage}"
    told = f"version {target.version}, release {target.id}"
    with suppress(RegistryUnavailable):
        if patient.is_deleted(patient.model, target.version):
            told += "; it is deleted from MLflow, so no alias would say that it serves"
    return True, told


def _damage(patient: Patient, bundle_digest: str) -> str:
    try:
        patient.bundles.path(bundle_digest)
    except SlipwayError as error:
        return f"does not hold: {error.message}"
    return ""


def _work_ends(patient: Patient) -> tuple[bool, str]:
    stalled = stalled_work(patient.records, patient.now())
    if stalled:
        return False, "; ".join(stalled)
    begun = [work.id for kind in KINDS for work in patient.records.find(kind, state=RunState.RUNNING)]
    return True, f"{', '.join(begun)} goes on" if begun else "no work is under way"


def _no_new_rights(patient: Patient) -> tuple[bool, str]:
    """Judge by this container, for all: no service can ask for it, so it is the engine's default or nobody's."""
    told = patient.process.read_text() if patient.process else ""
    found = re.search(r"^NoNewPrivs:\s*(\d)$", told, re.MULTILINE)
    if found is None:
        raise Undecided("the kernel does not say NoNewPrivs")
    if found[1] == "1":
        return True, "the engine starts containers with no-new-privileges"
    return False, 'a program could gain rights: "no-new-privileges": true is not in /etc/docker/daemon.json'


def _lease_holder(patient: Patient, environment: Environment) -> str | None:
    """Return who changes an environment; who undoes or mends there, again and again if need be, excuses nothing."""
    endpoint = Endpoint(patient.model, environment)
    found = patient.records.find(Lease, id=f"{patient.model}/{environment}")
    holder = found[0].holder if found else None
    excusing_nothing = [mending(endpoint), *(release.id for release in half_undone(patient.records, endpoint))]
    return None if holder in excusing_nothing else holder
