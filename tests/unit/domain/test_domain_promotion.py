from contextlib import suppress
from dataclasses import fields, replace

import pytest

from pipelines.domain.promotion import (
    Evidence,
    Override,
    PastRelease,
    ReleaseState,
    RunState,
    lifecycle,
    profile_refusal,
    report_verdict,
    rollback_target,
    void_reasons,
)
from pipelines.domain.release import Environment
from pipelines.domain.report import Report
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.domain.version import Lifecycle
from pipelines.errors import NoRollbackTarget, UsageError
from pipelines.evaluation.gates.registry import GATES
from tests.support.world.records import policy, report

OVERRIDABLE = GATES.overridable
EVIDENCE = Evidence("toy-model", "2", "production", "sha256:b", "sha256:r", "sha256:p", "r-1")
STATES = {
    "serving": ReleaseState.SERVING,
    "good": ReleaseState.SUPERSEDED,
    "bad": ReleaseState.ROLLED_BACK,
    "failed": ReleaseState.FAILED,
    "starting": ReleaseState.STARTING,
}


def history(text: str) -> list[PastRelease]:
    """Read releases such as `1:good 2:bad 1:serving=r1`: version, state, and what a rollback restored."""
    past = []
    for number, word in enumerate(text.split(), start=1):
        version, _, rest = word.partition(":")
        state, _, restores = rest.partition("=")
        past.append(PastRelease(f"r{number}", version, f"sha256:{version}", STATES[state], restores or None))
    return past


@pytest.mark.parametrize(
    ("past", "target"),
    [
        ("1:good 2:serving", "r1"),
        ("1:good 2:good 3:serving", "r2"),
        # good -> bad -> bad -> good
        ("1:good 2:bad 1:good=r1 3:serving", "r1"),
        ("1:good 2:bad 1:good=r1 3:bad 1:good=r1 4:serving", "r1"),
        ("1:good 2:failed 3:serving", "r1"),
        ("1:good 2:failed 2:failed 2:serving", "r1"),
        ("1:good 2:serving 3:starting", "r1"),
        # a rollback of a rollback goes to the good release before the one restored
        ("1:good 2:good 3:bad 2:serving=r2", "r1"),
        ("1:good 2:good 3:good 4:bad 3:serving=r3", "r2"),
        # the same version again is no way back
        ("1:good 2:good 2:serving", "r1"),
        # promoted again after a rollback and good: a target again
        ("1:good 2:bad 1:good=r1 2:good 3:serving", "r4"),
        # rolled back under an earlier, good release of the same version
        ("3:good 2:good 1:good 2:bad 1:serving=r3", "r1"),
    ],
)
def test_a_rollback_goes_to_the_last_good_release(past: str, target: str) -> None:
    assert rollback_target(history(past)).id == target


@pytest.mark.parametrize(
    "past",
    [
        "",
        "1:failed",
        "1:starting",
        "1:serving",
        "1:failed 2:serving",
        "1:good 1:serving",
        "1:good 2:bad 1:serving=r1",
        "1:bad 2:serving",
        "2:good 1:good 2:bad 1:serving=r2",
        "1:bad 2:bad 1:bad=r1 0:serving",
        # restored to what was itself rolled back
        "1:bad 1:good=r1 2:serving",
    ],
)
def test_without_a_good_release_before_there_is_no_way_back(past: str) -> None:
    with pytest.raises(NoRollbackTarget) as refused:
        rollback_target(history(past))

    assert refused.value.next


@pytest.mark.parametrize("circle", [{1: 1}, {0: 0}, {0: 1, 1: 0}, {0: 1, 1: 2, 2: 0}])
def test_what_restores_itself_by_a_damaged_record_is_looked_at_once(circle: dict[int, int]) -> None:
    states = (ReleaseState.SUPERSEDED, ReleaseState.SUPERSEDED, ReleaseState.SERVING)
    past = [
        PastRelease(f"r-{number}", str(number), "sha256:0", state, f"r-{circle[number]}" if number in circle else None)
        for number, state in enumerate(states)
    ]
    with suppress(NoRollbackTarget):
        assert rollback_target(past) in past


def test_rolling_back_again_and_again_ends_at_the_first_good_release() -> None:
    past = history("1:good 2:good 3:serving")
    seen = []
    for number in (4, 5):
        target = rollback_target(past)
        seen.append(target.version)
        bad = past[-1]
        spoiled = {bad.id, bad.restores}
        past = [replace(r, state=ReleaseState.ROLLED_BACK) if r.id in spoiled else r for r in past]
        past.append(PastRelease(f"r{number}", target.version, target.bundle_digest, ReleaseState.SERVING, target.id))

    assert seen == ["2", "1"]
    with pytest.raises(NoRollbackTarget):
        rollback_target(past)


@pytest.mark.parametrize("field", [field.name for field in fields(Evidence)])
def test_a_change_of_any_field_voids_an_approval(field: str) -> None:
    changed = replace(EVIDENCE, **{field: "other"})

    (reason,) = void_reasons(EVIDENCE, changed)

    assert field.replace("_", " ") in reason
    assert "other" in reason


def test_an_approval_holds_for_the_same_evidence() -> None:
    assert void_reasons(EVIDENCE, replace(EVIDENCE)) == ()


def test_a_first_champion_voids_an_approval_given_without_one() -> None:
    assert void_reasons(replace(EVIDENCE, champion_release=None), EVIDENCE)


def test_no_override_is_asked_for_without_gates_and_reason() -> None:
    assert Override.parse([], None, overridable=OVERRIDABLE) is None
    assert Override.parse(["", " "], "", overridable=OVERRIDABLE) is None


def test_an_override_names_its_gates_once_each() -> None:
    assert Override.parse([" accuracy", "slo", "accuracy"], " hotfix ", overridable=OVERRIDABLE) == Override(
        frozenset({"accuracy", "slo"}), "hotfix"
    )


@pytest.mark.parametrize(
    ("gates", "reason"),
    [(["accuracy"], None), (["accuracy"], ""), (["accuracy"], "  "), ([], "because"), ([" "], "why")],
)
def test_half_an_override_is_refused(gates: list[str], reason: str | None) -> None:
    with pytest.raises(UsageError, match="its gates and a reason"):
        Override.parse(gates, reason, overridable=OVERRIDABLE)


@pytest.mark.parametrize(
    "gate", [*sorted({gate.name for gate in GATES.all} - OVERRIDABLE), "approval", "slo.p99", "Accuracy", "x" * 100]
)
def test_gates_of_safety_and_unknown_ones_can_not_be_overridden(gate: str) -> None:
    with pytest.raises(UsageError, match="can't be overridden"):
        GATES.read_override(["accuracy", gate], "because")


def test_safety_and_a_persons_yes_are_not_overridable() -> None:
    assert not OVERRIDABLE & {"digest", "golden_rows", "artifact_safety", "schema", "smoke", "approval"}
    assert {gate.name for gate in GATES.all} >= OVERRIDABLE


def test_a_reports_verdict_leaves_out_the_overridden_gates_only() -> None:
    gates = (GateResult("accuracy", Verdict.FAILED, ""), GateResult("slo.p99", Verdict.PASSED, ""))
    body = Report.read(report(policy=policy(), gates=gates))

    assert report_verdict(body, None) is Verdict.FAILED
    assert report_verdict(body, Override(frozenset({"slo"}), "why")) is Verdict.FAILED
    assert report_verdict(body, Override(frozenset({"accuracy"}), "why")) is Verdict.PASSED


@pytest.mark.parametrize(
    ("profile", "environment", "refused"),
    [
        ("full", Environment.PRODUCTION, False),
        ("demo", Environment.PRODUCTION, True),
        ("demo", Environment.STAGING, False),
    ],
)
def test_demo_evidence_stops_before_production(profile: str, environment: Environment, refused: bool) -> None:
    refusal = profile_refusal(Report.read(report(policy=policy(), profile=profile)), policy(), environment)

    assert (refusal is not None) is refused


PRODUCTION, STAGING = Environment.PRODUCTION, Environment.STAGING
SERVING, SUPERSEDED = ReleaseState.SERVING, ReleaseState.SUPERSEDED
ROLLED_BACK, FAILED = ReleaseState.ROLLED_BACK, ReleaseState.FAILED


@pytest.mark.parametrize(
    ("releases", "shown"),
    [
        ([], Lifecycle.CANDIDATE),
        ([(PRODUCTION, "9", SERVING)], Lifecycle.CANDIDATE),
        ([(STAGING, "1", SERVING)], Lifecycle.STAGING),
        ([(STAGING, "1", SERVING), (PRODUCTION, "1", SERVING)], Lifecycle.PRODUCTION),
        ([(STAGING, "1", SUPERSEDED)], Lifecycle.CANDIDATE),
        ([(PRODUCTION, "1", FAILED)], Lifecycle.CANDIDATE),
        ([(PRODUCTION, "1", SUPERSEDED)], Lifecycle.ARCHIVED),
        ([(PRODUCTION, "1", ROLLED_BACK)], Lifecycle.ROLLED_BACK),
        ([(PRODUCTION, "1", ROLLED_BACK), (PRODUCTION, "1", SUPERSEDED)], Lifecycle.ARCHIVED),
        ([(PRODUCTION, "1", ROLLED_BACK), (PRODUCTION, "1", FAILED)], Lifecycle.ROLLED_BACK),
        ([(PRODUCTION, "1", SUPERSEDED), (PRODUCTION, "1", SERVING)], Lifecycle.PRODUCTION),
        ([(PRODUCTION, "1", ROLLED_BACK), (STAGING, "1", SERVING)], Lifecycle.STAGING),
        ([(STAGING, "1", SERVING), (PRODUCTION, "1", ROLLED_BACK)], Lifecycle.ROLLED_BACK),
        ([(STAGING, "1", SERVING), (PRODUCTION, "1", SUPERSEDED)], Lifecycle.STAGING),
    ],
)
def test_people_read_what_serves_first_and_then_what_became_of_it(
    releases: list[tuple[Environment, str, ReleaseState]], shown: Lifecycle
) -> None:
    assert lifecycle(releases, "1") is shown


@pytest.mark.parametrize("state", list(RunState))
def test_only_done_and_stopped_are_final(state: RunState) -> None:
    assert state.final is (state in (RunState.DONE, RunState.STOPPED))
