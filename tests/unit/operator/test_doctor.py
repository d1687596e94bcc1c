import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.adapters.database.records import SqlRecords, now
from pipelines.domain.audit import Checkpoint, open_intents
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import Approval, Evaluation, LeaderLease, Lease, Promotion, ReleaseRecord
from pipelines.domain.release import Endpoint, Environment, Slot
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import RegistryUnavailable
from pipelines.governance.standing import evidence_of
from pipelines.operator.doctor import Invariant, Patient, examine, examine_home
from pipelines.operator.privacy import tighten
from pipelines.releases.machine import boot_clock
from pipelines.releases.mending import mending
from pipelines.releases.stalled import QUIET_S
from pipelines.settings.settings import Settings
from pipelines.settings.tokens import make_tokens, read_tokens
from tests.support.servers.databases import sqlite_records
from tests.support.world.fakes import FakeBundles, FakeCheckpoints, FakeTarget
from tests.support.world.records import (
    MODEL,
    NOW,
    add,
    approval,
    bundle_digest,
    evaluation,
    policy,
    promotion,
    put_in_force,
    release,
    report,
    report_step,
)

PRODUCTION, STAGING = Environment.PRODUCTION, Environment.STAGING


@dataclass
class Ward:
    """A healthy installation that a test breaks: version 2 serves production after version 1."""

    records: SqlRecords
    checkpoints: FakeCheckpoints
    target: FakeTarget = field(default_factory=lambda: FakeTarget(replicas=2))
    bundles: FakeBundles = field(default_factory=FakeBundles)
    aliases: dict[str, str] = field(default_factory=lambda: {"production": "2"})
    aliases_of: dict[str, dict[str, str]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    registry_down: bool = False
    process: Path | None = None
    now: Callable[[], str] = now

    def read_aliases(self, model: str) -> dict[str, str]:
        if self.registry_down:
            raise RegistryUnavailable("MLflow does not answer")
        return self.aliases_of.get(model, self.aliases)

    def is_deleted(self, model: str, version: str) -> bool:
        if self.registry_down:
            raise RegistryUnavailable("MLflow does not answer")
        return version in self.deleted

    def patient(self) -> Patient:
        return Patient(
            MODEL,
            self.records,
            self.checkpoints,
            self.target,
            self.bundles,
            self.read_aliases,
            self.is_deleted,
            self.process,
            self.now,
        )

    def examine(self) -> dict[str, Invariant]:
        return {invariant.id: invariant for invariant in examine([self.patient()])}

    def broken(self) -> list[str]:
        return [id for id, invariant in self.examine().items() if invariant.holds is False]

    def serve(self, record: ReleaseRecord) -> None:
        self.target.start(record.release, Slot.LIVE, epoch=1)
        for _ in range(2):
            self.target.observe(record.release.endpoint, Slot.LIVE)

    def change(self, kind: type, id: str, **values: object) -> None:
        with self.records.write() as transaction:
            transaction.change(transaction.get(kind, id), **values)


def living_executor() -> LeaderLease:
    return LeaderLease("executor", "x1", os.getpid(), 0.0, now(), "elsewhere", None, *boot_clock())


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    checkpoints = FakeCheckpoints()
    records = sqlite_records(tmp_path, checkpoints)
    applied = put_in_force(records)
    measured = evaluation(report=report(policy=applied))
    asked = promotion(state=RunState.DONE)
    serving = release("r-2", "2", evidence={"report_digest": measured.report_digest})
    add(records, release("r-1", "1", change_id="p-0", state=ReleaseState.SUPERSEDED), measured, asked, serving)
    with records.write() as transaction:
        evidence = asdict(evidence_of(records, asked))
        transaction.add(approval(evidence))
        transaction.audit("bob", "promotion.approve", "outcome", subject="p-1")
        asked_for = {"version": "2", "bundle": serving.bundle_digest}
        transaction.audit("alice", "release.promotion", "intent", subject="r-2", detail=asked_for)
    ward = Ward(records, checkpoints)
    ward.serve(serving)
    yield ward
    records.close()


def test_a_healthy_installation_keeps_every_invariant(ward: Ward) -> None:
    found = ward.examine()

    assert {id: invariant.holds for id, invariant in found.items()} == {
        **dict.fromkeys(["I1", "I2", "I3", "I4", "I6", "I8"], True),
        "I5": None,
    }
    assert not found["I5"].measurable
    assert found["I1"].detail == "version 2 was approved by bob"


def test_each_model_is_examined_and_named_and_the_worst_of_them_counts(ward: Ward) -> None:
    other = replace(ward.patient(), model="other-model")

    def examined() -> dict[str, Invariant]:
        return {invariant.id: invariant for invariant in examine([ward.patient(), other])}

    ward.aliases_of["other-model"] = {}
    found = examined()
    assert all(invariant.holds for invariant in found.values() if invariant.measurable)
    assert (
        found["I1"].detail == f"{MODEL}: version 2 was approved by bob | other-model: nothing is released in production"
    )
    assert found["I4"] == ward.examine()["I4"]

    add(ward.records, release("r-9", "9", model="other-model", change_id="p-9", state=ReleaseState.STARTING))
    broken = examined()["I3"]
    assert (broken.holds, "other-model: p-9 began a release" in broken.detail, bool(broken.next)) == (False, True, True)
    assert ward.examine()["I3"].holds


def test_a_new_installation_keeps_every_invariant(tmp_path: Path) -> None:
    checkpoints = FakeCheckpoints()
    records = sqlite_records(tmp_path, checkpoints)
    try:
        found = Ward(records, checkpoints, aliases={}).examine()
    finally:
        records.close()

    assert all(invariant.holds for invariant in found.values() if invariant.measurable)


def test_an_audit_trail_whose_checkpoints_are_gone_can_not_be_measured(ward: Ward) -> None:
    ward.checkpoints = FakeCheckpoints()

    found = ward.examine()["I4"]

    assert (found.holds, "no checkpoint shows" in found.detail) == (None, True)


def rollback_to_version_1(ward: Ward) -> None:
    ward.change(ReleaseRecord, "r-2", state=ReleaseState.ROLLED_BACK)
    add(ward.records, release("r-3", "1", kind="rollback", change_id="b-1", restores="r-1"))
    ward.serve(ward.records.get(ReleaseRecord, "r-3"))
    ward.aliases["production"] = "1"


def withdraw_approval(ward: Ward) -> None:
    ward.change(Approval, "a-1", approved=False)


def approve_by_the_requester_only(ward: Ward) -> None:
    ward.change(Approval, "a-1", person="alice")


def rewrite_the_report(ward: Ward) -> None:
    body = ward.records.get(Evaluation, "e-1").report or {}
    ward.change(Evaluation, "e-1", report={**body, "verdict": "passed", "created_at": "later"})


def approve_another_report(ward: Ward) -> None:
    given = ward.records.get(Approval, "a-1")
    ward.change(Approval, "a-1", evidence={**given.evidence, "report_digest": "sha256:other"})


def release_a_failed_report(ward: Ward) -> None:
    gates = (GateResult("digest", Verdict.PASSED, ""), GateResult("accuracy", Verdict.FAILED, ""))
    failed = report(policy=policy(), gates=gates, verdict=Verdict.FAILED)
    measured = evaluation(report=failed)
    digest = {"report_digest": measured.report_digest}
    given = ward.records.get(Approval, "a-1")
    ward.change(Evaluation, "e-1", report=failed, report_digest=measured.report_digest, verdict="failed")
    ward.change(ReleaseRecord, "r-2", evidence=digest)
    ward.change(Approval, "a-1", evidence={**given.evidence, **digest})


def name_another_bundle(ward: Ward) -> None:
    """Have the record of what serves name the bundle of a version that was refused, and serve that."""
    ward.change(ReleaseRecord, "r-2", bundle_digest=bundle_digest("3"))
    ward.serve(replace(ward.records.get(ReleaseRecord, "r-2"), id="r-2b"))


def name_another_bundle_in_the_evidence_too(ward: Ward) -> None:
    ward.change(ReleaseRecord, "r-2", version="3", evidence={"version": "3", "bundle_digest": bundle_digest("3")})
    name_another_bundle(ward)


def restore_another_bundle(ward: Ward) -> None:
    rollback_to_version_1(ward)
    ward.change(ReleaseRecord, "r-3", bundle_digest=bundle_digest("3"))
    ward.serve(replace(ward.records.get(ReleaseRecord, "r-3"), id="r-3b"))


def approve_another_bundle(ward: Ward) -> None:
    given = ward.records.get(Approval, "a-1")
    ward.change(Approval, "a-1", evidence={**given.evidence, "bundle_digest": bundle_digest("3")})


def serve_something_else(ward: Ward) -> None:
    ward.serve(release("r-9", "9"))


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (withdraw_approval, "no approval by another person"),
        (approve_by_the_requester_only, "no approval by another person"),
        (rewrite_the_report, "was changed after its approval"),
        (approve_another_report, "approved on another report"),
        (release_a_failed_report, "is failed"),
        (serve_something_else, "not release r-2"),
        (name_another_bundle, "and the audit log says"),
        (name_another_bundle_in_the_evidence_too, "has version 3, and the audit log says 2"),
        (restore_another_bundle, "another version or bundle than r-1"),
        (approve_another_bundle, "another bundle than its report"),
    ],
)
def test_i1_is_broken_when_production_serves_what_was_not_approved(
    ward: Ward, damage: Callable[[Ward], None], named: str
) -> None:
    damage(ward)

    invariant = ward.examine()["I1"]

    assert invariant.holds is False
    assert named in invariant.detail


def test_what_serves_without_any_record_breaks_i1_and_i2(tmp_path: Path) -> None:
    checkpoints = FakeCheckpoints()
    records = sqlite_records(tmp_path, checkpoints)
    try:
        ward = Ward(records, checkpoints, aliases={})
        ward.serve(release("r-2", "2"))
        found = ward.examine()
        assert ward.broken() == ["I1", "I2"]
        assert found["I1"].detail == "live-1, live-2 serve something that no record names"
        assert found["I2"].detail == "nothing is released in production, but version 2 is served"
    finally:
        records.close()


@pytest.mark.parametrize(
    ("change", "unknown", "told"),
    [
        (
            "releases SET evidence = '{}' WHERE id = 'r-2'",
            ["I1"],
            "row r-2 of releases is damaged: its evidence has no",
        ),
        ("releases SET evidence = NULL WHERE id = 'r-2'", ["I1", "I2", "I6"], "row r-2 of releases is damaged"),
        ("releases SET evidence = '[]' WHERE id = 'r-2'", ["I1", "I2", "I6"], "damaged: its evidence is []"),
        ("releases SET evidence = '{' WHERE id = 'r-2'", ["I1", "I2", "I6"], "a row of releases is damaged: Expecting"),
        ("releases SET state = 'bogus' WHERE id = 'r-1'", ["I6"], "row r-1 of releases is damaged: its state is bogus"),
        ("approvals SET evidence = '{}'", ["I1"], "row a-1 of approvals is damaged: its evidence has no report_digest"),
        ("evaluations SET report = '[]'", ["I1"], "row e-1 of evaluations is damaged: its report is []"),
        ("evaluations SET state = NULL", ["I1"], "row e-1 of evaluations is damaged: its state is None"),
        ("promotions SET override_gates = NULL", ["I1"], "row p-1 of promotions is damaged"),
        ("audit_log SET detail = '{'", ["I1", "I4"], "an entry of the audit log is damaged: Expecting"),
        ("audit_log SET detail = '[]'", ["I1"], "what is recorded is damaged: AttributeError"),
    ],
)
def test_a_damaged_row_is_named_as_what_can_not_be_measured(
    ward: Ward, tmp_path: Path, change: str, unknown: list[str], told: str
) -> None:
    with sqlite3.connect(next(tmp_path.glob("*.db"))) as connection:
        # Who damages rows does not ask them.
        for (guard,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {guard}")
        connection.execute(f"UPDATE {change}")
    found = ward.examine()
    assert [id for id, each in found.items() if each.holds is None and each.measurable and each.next] == unknown
    assert told in found[unknown[0]].detail
    assert found[unknown[0]].detail.startswith("can't be measured: ")


@pytest.mark.parametrize("circle", [["r-2"], ["r-3", "r-2"]])
def test_a_release_that_restores_itself_is_found(ward: Ward, circle: list[str]) -> None:
    if len(circle) > 1:
        add(ward.records, release("r-3", "2", kind="rollback", state=ReleaseState.ROLLED_BACK))
    for id, restored in zip(circle, [*circle[1:], circle[0]], strict=True):
        ward.change(ReleaseRecord, id, restores=restored)
    found = ward.examine()["I1"]
    assert (found.holds, "restores r-2, which is no earlier one" in found.detail) == (False, True)


def test_i1_lets_a_release_under_way_serve_beside_the_recorded_one(ward: Ward) -> None:
    serve_something_else(ward)
    add(ward.records, Lease(f"{MODEL}/production", "p-7", 3, "x1", NOW))

    assert ward.examine()["I1"] == Invariant("I1", True, "version 2 was approved by bob")


def test_i1_holds_for_an_overridden_gate_and_names_it(ward: Ward) -> None:
    release_a_failed_report(ward)
    ward.change(Promotion, "p-1", override_gates=["accuracy"], override_reason="hotfix")

    assert ward.examine()["I1"].detail == "version 2 was approved by bob, overriding accuracy"


def test_i1_judges_a_rolled_back_production_by_the_release_restored(ward: Ward) -> None:
    first = evaluation("e-0", "1", report=report("1", policy=policy()))
    digest = {"report_digest": first.report_digest, "bundle_digest": bundle_digest("1")}
    add(
        ward.records,
        first,
        promotion("p-0", "1", evaluation_id="e-0", state=RunState.DONE),
        approval({**ward.records.get(Approval, "a-1").evidence, **digest}, "a-0", promotion_id="p-0", person="carol"),
    )
    ward.change(ReleaseRecord, "r-1", evidence=digest)
    rollback_to_version_1(ward)

    assert ward.examine()["I1"] == Invariant("I1", True, "version 1 was approved by carol")


def test_a_later_stricter_policy_does_not_break_i1(ward: Ward) -> None:
    put_in_force(ward.records, policy(**{"gates.accuracy.minimum": 0.99}).body)

    assert ward.broken() == []


@pytest.mark.parametrize("aliases", [{}, {"production": "1"}, {"production": "2", "staging": "2"}])
def test_i2_is_broken_when_an_alias_says_something_else(ward: Ward, aliases: dict[str, str]) -> None:
    ward.aliases = aliases

    assert ward.broken() == ["I2"]


def test_i2_is_broken_when_replicas_serve_something_else(ward: Ward) -> None:
    serve_something_else(ward)

    assert "I2" in ward.broken()


def test_i2_shows_an_unfinished_promotion_instead(ward: Ward) -> None:
    add(ward.records, Lease(f"{MODEL}/production", "p-7", 3, "x1", NOW))
    ward.aliases = {"production": "1"}

    invariant = ward.examine()["I2"]

    assert (invariant.holds, invariant.detail) == (True, "staging: no release; production: p-7 is under way")


@pytest.mark.parametrize("holder", [None, "p-8"])
def test_i3_is_broken_by_a_release_without_the_lease(ward: Ward, holder: str | None) -> None:
    add(ward.records, living_executor())
    add(
        ward.records,
        Lease(f"{MODEL}/production", holder, 3, "x1", NOW),
        release("r-3", "3", change_id="p-7", state=ReleaseState.STARTING),
    )

    assert ward.broken() == ["I3"]


def test_i3_holds_for_the_release_of_the_leases_holder(ward: Ward) -> None:
    add(
        ward.records,
        Lease(f"{MODEL}/production", "p-7", 3, "x1", NOW),
        release("r-3", "3", change_id="p-7", state=ReleaseState.STARTING),
    )

    assert ward.examine()["I3"] == Invariant("I3", True, f"{MODEL}/production held by p-7")


def test_i4_is_broken_by_a_head_that_the_chain_does_not_reach(ward: Ward) -> None:
    ward.checkpoints.export(Checkpoint(99, "f" * 64))

    assert ward.broken() == ["I4"]


def test_i6_is_broken_by_a_rollback_target_whose_bundle_does_not_hold(ward: Ward) -> None:
    ward.bundles.corrupt.add(release("r-1", "1").bundle_digest)

    assert ward.broken() == ["I6"]
    assert "version 1" in ward.examine()["I6"].detail


@pytest.mark.parametrize("environment", [PRODUCTION, STAGING])
def test_i6_is_broken_by_a_damaged_bundle_of_what_serves(ward: Ward, environment: Environment) -> None:
    if environment is STAGING:
        staged = release("r-3", "3", environment=STAGING, kind="staging")
        add(ward.records, staged)
        ward.serve(staged)
        ward.aliases["staging"] = "3"
        assert ward.broken() == []
    ward.bundles.corrupt.add(bundle_digest("3" if environment is STAGING else "2"))

    assert ward.broken() == ["I6"]
    found = ward.examine()["I6"]
    assert f"which {environment} serves, does not hold" in found.detail
    assert "deploy-staging" in found.next


def test_a_version_that_was_deleted_from_the_registry_is_seen(ward: Ward) -> None:
    ward.deleted.add("1")
    found = ward.examine()["I6"]
    assert (found.holds, "deleted from MLflow" in found.detail) == (True, True)
    ward.deleted.add("2")
    ward.aliases = {}
    found = ward.examine()["I2"]
    assert (found.holds, "deleted from MLflow" in found.detail) == (False, True)
    assert 'a version that was deleted: "slipway promote" another' in found.next


def test_i6_tells_when_there_is_nothing_to_go_back_to(ward: Ward) -> None:
    ward.change(ReleaseRecord, "r-1", state=ReleaseState.FAILED)

    invariant = ward.examine()["I6"]

    assert invariant.holds
    assert invariant.detail.startswith("nothing to go back to")


def test_what_can_not_be_measured_is_neither_kept_nor_broken(ward: Ward) -> None:
    ward.registry_down = True

    found = ward.examine()

    assert found["I2"] == Invariant("I2", None, "can't be measured: MLflow does not answer")
    assert all(found[id].holds for id in ("I1", "I3", "I4", "I6"))


def test_a_release_whose_promotion_is_lost_can_not_be_measured(ward: Ward) -> None:
    ward.change(ReleaseRecord, "r-2", change_id="p-404")

    assert ward.examine()["I1"].holds is None


def test_an_intent_without_its_outcome_is_shown(ward: Ward) -> None:
    with ward.records.write() as transaction:
        transaction.audit("alice", "alias.move", "intent", subject="r-2")
        transaction.audit("alice", "alias.move", "outcome", subject="r-2")
        transaction.audit("alice", "promotion", "intent", subject="p-9")

    cut_off = open_intents(ward.records.audit_trail())

    assert [(entry.action, entry.subject) for entry in cut_off] == [("release.promotion", "r-2")]


@pytest.mark.parametrize(("told", "holds"), [("1", True), ("0", False), ("?", None)])
def test_a_container_whose_programs_could_gain_rights_is_found(
    ward: Ward, tmp_path: Path, told: str, holds: bool
) -> None:
    ward.process = tmp_path / "status"
    ward.process.write_text(f"Name:\tdocker-init\nNoNewPrivs:\t{told}\nSeccomp:\t2\n")
    found = ward.examine()["I9"]
    assert found.holds is holds
    assert ("daemon.json" in found.detail) is (holds is False)


def test_what_the_real_kernel_says_of_a_process_can_be_read(ward: Ward) -> None:
    ward.process = Path("/proc/self/status")
    if not ward.process.exists():
        pytest.skip("this kernel has no /proc/self/status")
    assert ward.examine()["I9"].holds in (True, False)


def test_what_is_broken_says_what_to_do_next(ward: Ward) -> None:
    ward.aliases = {}
    found = ward.examine()
    assert "set it back in MLflow" in found["I2"].next
    assert all(not invariant.next for invariant in found.values() if invariant.holds)


def begin_work(ward: Ward, *, lives: bool = True) -> None:
    add(ward.records, promotion("p-7", "7", state=RunState.RUNNING), Lease(f"{MODEL}/production", "p-7", 3, "x1", NOW))
    report_step(ward.records, "p-7", "K9 recorded")
    if lives:
        add(ward.records, living_executor())


def test_i8_is_broken_by_work_that_tells_nothing_any_more(ward: Ward) -> None:
    begin_work(ward)
    assert ward.examine()["I8"] == Invariant("I8", True, "p-7 goes on")
    later = (datetime.now(UTC) + timedelta(seconds=QUIET_S + 60)).isoformat(timespec="milliseconds")
    ward.now = lambda: later
    found = ward.examine()["I8"]
    assert (found.holds, found.detail) == (
        False,
        "p-7 has made no progress since 'K9 recorded', 16 min ago, and holds a lease",
    )
    assert "slipway up" in found.next


def test_i8_is_broken_by_work_without_an_executor(ward: Ward) -> None:
    begin_work(ward, lives=False)
    assert "p-7 does not go on: no executor" in ward.examine()["I8"].detail


@pytest.mark.parametrize("left", [ReleaseState.UNDOING, ReleaseState.STARTING, None])
def test_i8_is_broken_by_what_is_half_done_or_held_without_an_executor(ward: Ward, left: ReleaseState | None) -> None:
    if left:
        add(ward.records, release("r-6", "3", change_id="p-7", state=left))
    else:
        add(ward.records, Lease(f"{MODEL}/production", "r-6", 3, "x1", NOW))
    found = ward.examine()["I8"]
    assert (found.holds, found.detail) == (False, "r-6 does not go on: no executor shows that it lives")
    add(ward.records, living_executor())
    assert ward.examine()["I8"].holds


def test_i8_is_broken_by_a_promotion_that_nobody_let_expire(ward: Ward) -> None:
    add(ward.records, promotion("p-8", "8", expires_at=NOW))
    assert "p-8 should have expired" in ward.examine()["I8"].detail


def test_i2_is_broken_by_a_release_that_is_not_undone_yet(ward: Ward) -> None:
    add(ward.records, living_executor(), release("r-3", "3", change_id="p-7", state=ReleaseState.UNDOING))
    assert ward.broken() == ["I2"]
    assert "version 3 came to nothing in production and is not undone yet" in ward.examine()["I2"].detail


@pytest.mark.parametrize("holder", ["r-3", mending(Endpoint(MODEL, PRODUCTION))])
def test_an_endpoint_that_is_undone_or_mended_again_and_again_holds_no_invariant_meanwhile(
    ward: Ward, holder: str
) -> None:
    add(ward.records, living_executor(), release("r-3", "3", change_id="p-7", state=ReleaseState.UNDOING))
    serve_something_else(ward)
    before = ward.broken()
    add(ward.records, Lease(f"{MODEL}/production", holder, 3, "x1", NOW))
    assert ward.broken() == before == ["I1", "I2"]


def test_i7_is_broken_by_a_home_that_others_can_read_and_by_a_token_in_a_log(tmp_path: Path) -> None:
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home")})
    settings.logs.mkdir(parents=True)
    settings.home.chmod(0o700)
    make_tokens(settings.tokens_file)
    assert examine_home(settings).holds
    token = read_tokens(settings.tokens_file)["bob"]
    (settings.logs / "api.log").write_text(f"asked with {token}")
    leaked = examine_home(settings)
    assert (leaked.holds, "api.log holds bob's token" in leaked.detail, token in leaked.detail) == (False, True, False)
    (settings.logs / "api.log").unlink()
    settings.home.chmod(0o755)
    assert "is open to others (mode 755)" in examine_home(settings).detail
    assert tighten(settings.home)
    assert examine_home(settings).holds
    assert not tighten(settings.home)
