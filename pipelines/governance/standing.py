"""What stands at this moment: policy and gates in force, the release that serves, and what an approval would cover."""

from datetime import datetime, timedelta

from pipelines.domain.policy import NEWEST, Policy
from pipelines.domain.promotion import Evidence, ReleaseState, RunState
from pipelines.domain.records import Evaluation, PolicyChange, Promotion, ReleaseRecord
from pipelines.domain.release import Endpoint, Environment
from pipelines.errors import UsageError
from pipelines.ports import Records, Transaction

# What the audit log says of the code that measures: its subject and its action.
GATES, GATES_CHANGE = "gates", "gates.change"


def newest_policy(transaction: Transaction | Records, model: str) -> PolicyChange | None:
    """Return the change that put a model's policy in force, None before the first."""
    applied = [each for each in transaction.find(PolicyChange, state=RunState.DONE) if each.model in (None, model)]
    return applied[-1] if applied else None


def policy_in_force(transaction: Transaction | Records, model: str) -> Policy:
    """Return the policy in force for a model; raise UsageError before any was applied."""
    applied = newest_policy(transaction, model)
    if not applied:
        raise UsageError("no policy is in force", next='run "slipway policy apply policy.yaml"')
    return Policy.read(applied.body)


def serving_release(transaction: Transaction | Records, model: str, environment: Environment) -> ReleaseRecord | None:
    """Return the recorded release of an environment's live slot, if any."""
    found = transaction.find(ReleaseRecord, model=model, environment=environment, state=ReleaseState.SERVING)
    return found[-1] if found else None


def half_undone(transaction: Transaction | Records, endpoint: Endpoint) -> list[ReleaseRecord]:
    """Return the releases of an environment that came to nothing and are not undone yet."""
    where = {"model": endpoint.model, "environment": endpoint.environment}
    return transaction.find(ReleaseRecord, **where, state=ReleaseState.UNDOING)


def contradicted(source: Transaction | Records, release: ReleaseRecord) -> str:
    """Say what was recorded of a release's version or bundle when it was asked for, and differs now; "" for nothing.

    That is its evidence, the audited intent, and the release that it restores, of which the same holds.
    """
    seen = {release.id}
    while not (wrong := _differs(source, release)) and release.restores is not None:
        origin = source.get(ReleaseRecord, release.restores)
        if (origin.version, origin.bundle_digest) != (release.version, release.bundle_digest):
            return f"release {release.id} has another version or bundle than {origin.id}, which it restores"
        if origin.id in seen:
            return f"release {release.id} restores {origin.id}, which is no earlier one"
        seen.add(origin.id)
        release = origin
    return wrong


def _differs(source: Transaction | Records, release: ReleaseRecord) -> str:
    """Say what a release's own evidence or audited intent says of its version or bundle instead, "" for nothing."""
    says = {"version": release.version, "bundle": release.bundle_digest}
    others = [("its evidence", {"version": "version", "bundle": "bundle_digest"}, release.evidence)]
    for entry in source.audited(release.id):
        if entry.phase == "intent" and entry.action.startswith("release."):
            others.append(("the audit log", {"version": "version", "bundle": "bundle"}, entry.detail))
    for who, names, told in others:
        for what, name in names.items():
            if told.get(name, says[what]) != says[what]:
                return f"release {release.id} has {what} {says[what]}, and {who} says {told[name]}"
    return ""


def evidence_of(records: Records, promotion: Promotion) -> Evidence:
    """Return what an approval of `promotion` covers at this moment."""
    evaluation = records.get(Evaluation, promotion.evaluation_id)
    champion = serving_release(records, promotion.model, promotion.environment)
    return Evidence(
        model=promotion.model,
        version=promotion.version,
        environment=promotion.environment,
        bundle_digest=evaluation.bundle_digest or "",
        report_digest=evaluation.report_digest or "",
        policy_digest=policy_in_force(records, promotion.model).digest,
        champion_release=champion.id if champion else None,
    )


def judged_by(evaluation: Evaluation) -> tuple[str, str | None]:
    """Return the policy and the champion's release that a report was made with."""
    report = evaluation.report or {"policy_digest": "", "champion": None}
    return report["policy_digest"], (report["champion"] or {}).get("release")


def gates_in_force(source: Transaction | Records) -> str | None:
    """Return the digest of the gates that the executor measures with, None before one has said so."""
    told = [entry for entry in source.audited(GATES) if entry.action == GATES_CHANGE]
    return told[-1].detail["digest"] if told else None


def changed_since(source: Transaction | Records, evaluation: Evaluation) -> tuple[str, ...]:
    """Return what was put in force since a report was made: an evaluation set, gates or a policy; nothing is ().

    A new promotion does not go by such a report. One that was asked for before goes on unless the policy is another:
    who applies a policy means what waits too, who brings a newer Slipway does not.
    """
    report = evaluation.report
    if report is None:
        return ()
    policy, gates = policy_in_force(source, evaluation.model), gates_in_force(source)
    pairs = [
        ("policy digest", report["policy_digest"], policy.digest),
        ("gates digest", report.get("gates_digest") or "not recorded", gates or report.get("gates_digest")),
    ]
    if policy.evaluation.set != NEWEST:
        pairs.insert(0, ("evaluation set", report["evalset_digest"], policy.evaluation.set))
    then, now = report.get("evalsets") or {}, {name: each.digest for name, each in policy.evaluation.sets.items()}
    pairs += [(f"evaluation set {name}", then.get(name, "none"), now.get(name, "none")) for name in {**then, **now}]
    return tuple(f"{what} was {then} and is {now}" for what, then, now in pairs if now is not None and then != now)


def expiry(policy: Policy, now: str) -> str:
    """Return when a promotion that starts to wait at `now` expires."""
    until = datetime.fromisoformat(now) + timedelta(hours=policy.approvals.valid_h)
    return until.isoformat(timespec="milliseconds")
