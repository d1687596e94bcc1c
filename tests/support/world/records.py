"""Records, reports and policies for tests: valid ones, of which a test changes what it is about."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipelines.domain.audit import Checkpoint
from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.policy import Policy
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import Approval, Evaluation, PolicyChange, Promotion, ReleaseRecord
from pipelines.domain.release import Environment
from pipelines.domain.report import Compared, Report
from pipelines.domain.sections import Profile
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.evaluation.gates.registry import GATES
from pipelines.governance.progress import report_progress
from pipelines.ports import Records

MODEL = "toy-model"
NOW = "2026-01-02T03:04:05.000+00:00"
POLICY_FILE = Path(__file__).resolve().parents[3] / "policy.yaml"


def policy_body(**changes: Any) -> dict[str, Any]:
    """Return policy.yaml as parsed, with `changes` given by dotted path: `{"gates.accuracy.minimum": 1}`.

    It compares no latencies with production's, unless `changes` say how.
    """
    body: dict[str, Any] = written(POLICY_FILE)
    body["slo"]["comparison"] = False
    for path, value in changes.items():
        *sections, key = path.split(".")
        section = body
        for name in sections:
            section = section[name]
        section[key] = value
    return body


def written(policy_file: Path) -> dict[str, Any]:
    """Return a file of a policy as parsed."""
    return copy.deepcopy(_parsed(policy_file))


@cache
def _parsed(file: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(file.read_text())
    return parsed


def policy(**changes: Any) -> Policy:
    """Return the policy of policy.yaml with `changes`."""
    return GATES.read_policy(policy_body(**changes))


def put_in_force(records: Records, body: dict[str, Any] | None = None, *, model: str | None = None) -> Policy:
    """Record a policy as applied, for one model or for any, and return it."""
    applied = GATES.read_policy(body or policy_body())
    with records.write() as transaction:
        id = transaction.new_id(PolicyChange)
        done = {"state": RunState.DONE, "ended_at": NOW}
        transaction.add(PolicyChange(id, applied.digest, applied.body, "alice", NOW, **done, model=model))
    return applied


def bundle_digest(version: str) -> str:
    """Return the digest that the bundle of a version has in these records."""
    return digest_of(f"bundle of {version}".encode())


def report(
    version: str = "2",
    *,
    policy: Policy,
    champion: ReleaseRecord | None = None,
    gates: tuple[GateResult, ...] = (GateResult("accuracy", Verdict.PASSED, "PASS accuracy"),),
    verdict: Verdict = Verdict.PASSED,
    profile: str = "full",
) -> dict[str, Any]:
    """Return a report of `version` as it is kept."""
    compared = (
        Compared(release=champion.id, version=champion.version, bundle_digest=champion.bundle_digest)
        if champion
        else None
    )
    made = Report(
        model=MODEL,
        version=version,
        bundle_digest=bundle_digest(version),
        policy_digest=policy.digest,
        profile=Profile(profile),
        evalset_digest="sha256:e",
        champion=compared,
        gates=gates,
        verdict=verdict,
        created_at=NOW,
    )
    return made.as_json()


def evaluation(id: str = "e-1", version: str = "2", *, report: dict[str, Any] | None, **changes: Any) -> Evaluation:
    """Return an evaluation, done unless `changes` say otherwise, with a report or without one."""
    values: dict[str, Any] = {"model": MODEL, "state": RunState.DONE, "bundle_digest": bundle_digest(version)}
    if report:
        values |= {"report": report, "report_digest": digest_of(canonical(report)), "verdict": report["verdict"]}
    return Evaluation(id=id, version=version, requested_by="alice", created_at=NOW, **{**values, **changes})


def promotion(id: str = "p-1", version: str = "2", **changes: Any) -> Promotion:
    """Return a promotion that alice asked for and that waits for people."""
    values: dict[str, Any] = {"evaluation_id": "e-1", "state": RunState.WAITING, **changes}
    return Promotion(id, MODEL, version, Environment.PRODUCTION, "alice", NOW, **values)


def approval(evidence: dict[str, Any], id: str = "a-1", **changes: Any) -> Approval:
    """Return bob's yes to the promotion p-1."""
    values: dict[str, Any] = {"promotion_id": "p-1", "person": "bob", "approved": True, "reason": "", **changes}
    return Approval(id=id, evidence=evidence, at=NOW, **values)


def release(id: str = "r-1", version: str = "1", **changes: Any) -> ReleaseRecord:
    """Return a release that serves production."""
    values: dict[str, Any] = {
        "model": MODEL,
        "environment": Environment.PRODUCTION,
        "bundle_digest": bundle_digest(version),
        "kind": "promotion",
        "change_id": "p-1",
        "state": ReleaseState.SERVING,
        **changes,
    }
    return ReleaseRecord(id=id, version=version, actor="alice", created_at=NOW, **values)


def add(records: Records, *found: Any) -> None:
    """Store records."""
    with records.write() as transaction:
        for record in found:
            transaction.add(record)


def checkpoint_of(records: Records) -> Checkpoint:
    """Return the checkpoint of the audit chain as it is now."""
    last = records.newest_audit(1)[-1]
    return Checkpoint(last.seq, last.hash)


def report_step(records: Records, subject: str, step: str, message: str = "") -> None:
    """Tell one line of progress."""
    with records.write() as transaction:
        report_progress(transaction, subject, step, message)
