from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import commands
from pipelines.adapters.database.records import SqlRecords
from pipelines.domain.promotion import Evidence, Override, ReleaseState, RunState
from pipelines.domain.records import Approval, Evaluation, PolicyChange, Promotion, ReleaseRecord, Rollback
from pipelines.domain.release import Environment
from pipelines.domain.verdict import Verdict
from pipelines.errors import ApprovalVoid, NotAllowed, PolicyInvalid, SlipwayError, UsageError
from pipelines.evaluation.gates.registry import GATES
from pipelines.governance.standing import evidence_of, expiry, policy_in_force
from tests.support.servers.databases import sqlite_records
from tests.support.world.fakes import FakeCheckpoints
from tests.support.world.records import (
    MODEL,
    NOW,
    add,
    evaluation,
    policy,
    policy_body,
    promotion,
    put_in_force,
    release,
    report,
)

HOTFIX = Override(frozenset({"accuracy"}), "hotfix")
CHAMPION = release("r-1", "1")


@pytest.fixture
def records(tmp_path: Path) -> Iterator[SqlRecords]:
    opened = sqlite_records(tmp_path, FakeCheckpoints())
    put_in_force(opened)
    yield opened
    opened.close()


def promote(
    records: SqlRecords, version: str = "2", *, person: str = "alice", override: Override | None = None
) -> Promotion:
    return commands.request_promotion(records, person=person, model=MODEL, version=version, override=override, now=NOW)


def waiting(records: SqlRecords, **changes: Any) -> Promotion:
    """Store a promotion that waits for people, on a report against the serving champion."""
    add(records, CHAMPION, evaluation(report=report(policy=policy(), champion=CHAMPION)), promotion(**changes))
    return records.get(Promotion, "p-1")


def decide(
    records: SqlRecords, person: str, *, approved: bool = True, evidence: Evidence | None = None, reason: str = "why"
) -> Approval:
    seen = evidence or evidence_of(records, records.get(Promotion, "p-1"))
    return commands.decide(
        records, person=person, promotion_id="p-1", approved=approved, reason=reason, evidence=seen, now=NOW
    )


def audited(records: SqlRecords) -> list[tuple[str, str, str]]:
    return [(entry.actor, entry.action, entry.phase) for entry in records.audit_trail()]


def test_an_evaluation_is_recorded_with_who_asked(records: SqlRecords) -> None:
    asked = commands.request_evaluation(records, person="bob", model=MODEL, version="2", override=None, now=NOW)

    assert records.get(Evaluation, asked.id) == Evaluation("e-1", MODEL, "2", "bob", NOW)
    assert audited(records) == [("bob", "evaluation.request", "intent")]


def test_an_evaluation_under_way_is_returned_instead_of_a_second_one(records: SqlRecords) -> None:
    def ask(version: str, override: Override | None = None) -> str:
        return commands.request_evaluation(
            records, person="bob", model=MODEL, version=version, override=override, now=NOW
        ).id

    assert [ask("2"), ask("2"), ask("3"), ask("2", HOTFIX), ask("2", HOTFIX)] == ["e-1", "e-1", "e-2", "e-3", "e-3"]


@pytest.mark.parametrize(("model", "version"), [("../x", "2"), (MODEL, "0"), (MODEL, "2; DROP TABLE audit_log")])
def test_names_are_checked_before_anything_is_written(records: SqlRecords, model: str, version: str) -> None:
    for ask in (commands.request_evaluation, commands.request_promotion):
        with pytest.raises(UsageError):
            ask(records, person="alice", model=model, version=version, override=None, now=NOW)

    assert list(records.audit_trail()) == []


def test_a_promotion_without_a_report_asks_for_its_evaluation_first(records: SqlRecords) -> None:
    asked = promote(records)

    assert (asked.state, asked.evaluation_id, asked.expires_at) == (RunState.REQUESTED, "e-1", None)
    assert records.get(Evaluation, "e-1").state is RunState.REQUESTED
    assert audited(records) == [("alice", "evaluation.request", "intent"), ("alice", "promotion", "intent")]


def test_a_promotion_joins_an_evaluation_under_way(records: SqlRecords) -> None:
    add(records, evaluation(report=None, state=RunState.RUNNING))

    assert promote(records).evaluation_id == "e-1"
    assert len(records.find(Evaluation)) == 1


def test_nobody_joins_an_evaluation_that_is_cancelled_already(records: SqlRecords) -> None:
    add(records, evaluation(report=None, state=RunState.RUNNING))
    commands.cancel_evaluation(records, person="bob", id="e-1")

    assert promote(records).evaluation_id == "e-2"
    assert commands.request_evaluation(
        records, person="bob", model=MODEL, version="2", override=None, now=NOW
    ) == records.get(Evaluation, "e-2")


def test_a_valid_report_is_used_again_and_the_wait_for_people_begins(records: SqlRecords) -> None:
    add(records, CHAMPION, evaluation(report=report(policy=policy(), champion=CHAMPION)))

    asked = promote(records)

    assert (asked.state, asked.evaluation_id) == (RunState.WAITING, "e-1")
    assert asked.expires_at == "2026-01-03T03:04:05.000+00:00"


@pytest.mark.parametrize(
    "stale",
    [
        evaluation(report=report(policy=policy(**{"slo.rate_per_s": 100}), champion=CHAMPION)),
        evaluation(report=report(policy=policy(), champion=None)),
        evaluation(report=report(policy=policy(), champion=release("r-0", "0"))),
        evaluation(report=report(policy=policy(), champion=CHAMPION, profile="demo")),
        evaluation(
            report=report(policy=policy(), champion=CHAMPION, verdict=Verdict.FAILED),
            override_gates=["accuracy"],
            override_reason="hotfix",
        ),
        evaluation(report=report(policy=policy(), champion=CHAMPION), state=RunState.STOPPED),
        evaluation(report=None),
    ],
    ids=["other policy", "no champion", "other champion", "demo", "overridden", "stopped", "no report"],
)
def test_a_report_that_does_not_hold_any_more_is_not_used_again(records: SqlRecords, stale: Evaluation) -> None:
    add(records, CHAMPION, stale)

    asked = promote(records)

    assert (asked.state, asked.evaluation_id) == (RunState.REQUESTED, "e-2")


def test_an_older_pass_is_not_picked_out_when_the_newest_report_says_no(records: SqlRecords) -> None:
    passed, failed = (report(policy=policy(), champion=CHAMPION, verdict=v) for v in (Verdict.PASSED, Verdict.FAILED))
    add(
        records,
        CHAMPION,
        evaluation("e-1", report=passed),
        evaluation("e-2", report=failed, state=RunState.STOPPED),
    )

    assert promote(records).evaluation_id == "e-3"


def test_an_evaluation_that_could_not_measure_does_not_void_the_report_before_it(records: SqlRecords) -> None:
    add(
        records,
        CHAMPION,
        evaluation("e-1", report=report(policy=policy(), champion=CHAMPION)),
        evaluation("e-2", report=None, state=RunState.STOPPED),
    )

    assert promote(records).evaluation_id == "e-1"


def test_a_report_with_the_same_override_is_used_again(records: SqlRecords) -> None:
    failed = report(policy=policy(), champion=CHAMPION, verdict=Verdict.FAILED)
    add(records, CHAMPION, evaluation(report=failed, override_gates=["accuracy"], override_reason="hotfix"))

    asked = promote(records, override=HOTFIX)

    assert (asked.state, asked.override) == (RunState.WAITING, HOTFIX)


def test_an_override_is_recorded_and_audited_with_its_reason(records: SqlRecords) -> None:
    asked = promote(records, override=Override(frozenset({"slo", "accuracy"}), "hotfix"))

    assert (asked.override_gates, asked.override_reason) == (["accuracy", "slo"], "hotfix")
    detail = records.newest_audit(1)[-1].detail
    assert (detail["override_gates"], detail["override_reason"]) == (["accuracy", "slo"], "hotfix")
    assert records.get(Evaluation, asked.evaluation_id).override == asked.override


@pytest.mark.parametrize("state", [state for state in RunState if not state.final])
def test_a_promotion_that_is_not_over_is_returned_whoever_asks(records: SqlRecords, state: RunState) -> None:
    waiting(records, state=state)

    assert promote(records, person="bob") == records.get(Promotion, "p-1")
    assert audited(records) == []


@pytest.mark.parametrize("state", [RunState.DONE, RunState.STOPPED])
def test_a_promotion_that_is_over_can_be_asked_again(records: SqlRecords, state: RunState) -> None:
    waiting(records, state=state)

    assert promote(records).id == "p-2"


def test_what_serves_production_is_not_promoted_again(records: SqlRecords) -> None:
    add(records, release("r-1", "2"))

    with pytest.raises(UsageError, match="already serves production"):
        promote(records)

    assert records.find(Promotion) == []


def test_what_served_production_once_can_be_promoted_again(records: SqlRecords) -> None:
    add(records, release("r-1", "2", state=ReleaseState.SUPERSEDED), release("r-2", "3"))

    assert promote(records).version == "2"


def test_without_a_policy_nothing_is_promoted(tmp_path: Path) -> None:
    bare = SqlRecords(f"sqlite:///{tmp_path / 'bare.db'}", FakeCheckpoints())
    try:
        with pytest.raises(UsageError, match="no policy is in force"):
            promote(bare)
        assert bare.find(Evaluation) == []
    finally:
        bare.close()


def test_the_waiting_promotion_of_a_version_is_found(records: SqlRecords) -> None:
    waiting(records)

    assert commands.waiting_promotion(records, MODEL, "2").id == "p-1"


@pytest.mark.parametrize(
    ("version", "state", "said"),
    [
        ("3", RunState.WAITING, "no promotion of version 3 waits"),
        ("2", RunState.DONE, "no promotion of version 2 waits"),
        ("2", RunState.REQUESTED, "p-1 of version 2 is still being measured"),
        ("2", RunState.RUNNING, "p-1 of version 2 is still being measured"),
        ("2", RunState.APPROVED, "p-1 of version 2 is approved already"),
    ],
)
def test_without_a_waiting_promotion_there_is_nothing_to_decide(
    records: SqlRecords, version: str, state: RunState, said: str
) -> None:
    waiting(records, state=state)

    with pytest.raises(UsageError, match=said):
        commands.waiting_promotion(records, MODEL, version)


def test_evidence_names_all_that_a_yes_covers(records: SqlRecords) -> None:
    asked = waiting(records)
    measured = records.get(Evaluation, "e-1")

    assert asdict(evidence_of(records, asked)) == {
        "model": MODEL,
        "version": "2",
        "environment": "production",
        "bundle_digest": measured.bundle_digest,
        "report_digest": measured.report_digest,
        "policy_digest": policy().digest,
        "champion_release": "r-1",
    }


def test_another_persons_yes_approves(records: SqlRecords) -> None:
    asked = waiting(records)

    given = decide(records, "bob")

    assert records.get(Promotion, "p-1").state is RunState.APPROVED
    assert records.find(Approval) == [given]
    assert given.evidence == asdict(evidence_of(records, asked))
    assert audited(records) == [("bob", "promotion.approve", "outcome")]


def test_as_many_people_as_the_policy_wants_must_say_yes(records: SqlRecords) -> None:
    strict = policy_body(**{"approvals.count": 2})
    applied = put_in_force(records, strict)
    add(records, CHAMPION, evaluation(report=report(policy=applied, champion=CHAMPION)), promotion())

    decide(records, "bob")
    assert records.get(Promotion, "p-1").state is RunState.WAITING
    decide(records, "carol")
    assert records.get(Promotion, "p-1").state is RunState.APPROVED


def test_a_no_ends_the_promotion_with_its_reason(records: SqlRecords) -> None:
    waiting(records)

    decide(records, "bob", approved=False, reason="too slow")

    stopped = records.get(Promotion, "p-1")
    assert (stopped.state, stopped.ended_at) == (RunState.STOPPED, NOW)
    assert stopped.error == {"code": "rejected", "message": "rejected by bob: too slow", "next": ""}
    assert audited(records) == [("bob", "promotion.reject", "outcome")]


def test_the_requester_may_say_no(records: SqlRecords) -> None:
    waiting(records)

    decide(records, "alice", approved=False)

    assert records.get(Promotion, "p-1").state is RunState.STOPPED


def refused(records: SqlRecords, kind: type[SlipwayError], person: str, **asked: Any) -> SlipwayError:
    """Decide, see it refused, recorded in the audit trail, and nothing else changed."""
    before = (records.find(Promotion), records.find(Approval), len(list(records.audit_trail())))
    with pytest.raises(kind) as raised:
        decide(records, person, **asked)
    assert (records.find(Promotion), records.find(Approval), len(list(records.audit_trail())) - 1) == before
    last = records.newest_audit(1)[-1]
    assert (last.actor, last.subject, last.detail["refused"]) == (person, "p-1", raised.value.message)
    return raised.value


def test_the_requesters_own_yes_is_refused_and_audited(records: SqlRecords) -> None:
    waiting(records)

    assert "can't approve it" in refused(records, NotAllowed, "alice").message


@pytest.mark.parametrize("approved", [True, False])
def test_nobody_decides_twice(records: SqlRecords, approved: bool) -> None:
    applied = put_in_force(records, policy_body(**{"approvals.count": 2}))
    add(records, CHAMPION, evaluation(report=report(policy=applied, champion=CHAMPION)), promotion())
    decide(records, "bob")

    refused(records, NotAllowed, "bob", approved=approved)


@pytest.mark.parametrize("state", [state for state in RunState if state is not RunState.WAITING])
@pytest.mark.parametrize("approved", [True, False])
def test_only_a_waiting_promotion_is_decided(records: SqlRecords, state: RunState, approved: bool) -> None:
    waiting(records, state=state)

    refused(records, UsageError, "bob", approved=approved)


@pytest.mark.parametrize("changed", [{"version": "3"}, {"report_digest": "sha256:older"}, {"report_digest": ""}])
def test_a_yes_to_other_evidence_is_void(records: SqlRecords, changed: dict[str, str]) -> None:
    seen = replace(evidence_of(records, waiting(records)), **changed)

    refused(records, ApprovalVoid, "bob", evidence=seen)


def test_a_yes_to_a_report_of_an_older_policy_is_void(records: SqlRecords) -> None:
    waiting(records)
    put_in_force(records, policy_body(**{"gates.accuracy.minimum": 0.9}))

    refused(records, ApprovalVoid, "bob")


def test_a_yes_to_a_report_against_an_older_champion_is_void(records: SqlRecords) -> None:
    waiting(records)
    with records.write() as transaction:
        transaction.change(transaction.get(ReleaseRecord, "r-1"), state=ReleaseState.SUPERSEDED)
        transaction.add(release("r-2", "9"))

    refused(records, ApprovalVoid, "bob")


def test_a_no_to_a_stale_report_counts(records: SqlRecords) -> None:
    waiting(records)
    put_in_force(records, policy_body(**{"gates.accuracy.minimum": 0.9}))

    decide(records, "bob", approved=False)

    assert records.get(Promotion, "p-1").state is RunState.STOPPED


def test_a_rollback_is_recorded_with_who_asked(records: SqlRecords) -> None:
    asked = commands.request_rollback(records, person="bob", model=MODEL, environment=Environment.PRODUCTION, now=NOW)

    assert records.get(Rollback, asked.id).requested_by == "bob"
    assert audited(records) == [("bob", "rollback", "intent")]


def test_a_policy_is_recorded_but_not_in_force_before_the_executor_says_so(records: SqlRecords) -> None:
    body = policy_body(**{"gates.accuracy.minimum": 0.9})

    change = commands.request_policy(records, person="bob", model=MODEL, policy=GATES.read_policy(body), now=NOW)

    assert records.get(PolicyChange, change.id).state is RunState.REQUESTED
    assert policy_in_force(records, MODEL) == policy()
    assert audited(records) == [("bob", "policy", "intent")]


def test_each_model_has_its_own_policy_and_one_of_before_holds_for_any(records: SqlRecords) -> None:
    strict = policy_body(**{"gates.accuracy.minimum": 0.9})
    asked = commands.request_policy(
        records, person="bob", model="other-model", policy=GATES.read_policy(strict), now=NOW
    )
    with records.write() as transaction:
        transaction.change(asked, state=RunState.DONE)

    assert policy_in_force(records, "other-model") == GATES.read_policy(strict)
    # The one that is in force here names no model.
    assert policy_in_force(records, MODEL) == policy_in_force(records, "third-model") == policy()


def test_an_illegal_policy_leaves_no_trace(records: SqlRecords) -> None:
    with pytest.raises(PolicyInvalid):
        commands.request_policy(
            records, person="bob", model=MODEL, policy=GATES.read_policy({**policy_body(), "gatse": {}}), now=NOW
        )

    assert len(records.find(PolicyChange)) == 1
    assert list(records.audit_trail()) == []


@pytest.mark.parametrize(
    ("hours", "until"), [(24, "2026-01-03T03:04:05.000+00:00"), (0.5, "2026-01-02T03:34:05.000+00:00")]
)
def test_a_wait_expires_after_the_hours_of_the_policy(hours: float, until: str) -> None:
    assert expiry(policy(**{"approvals.valid_h": hours}), NOW) == until
