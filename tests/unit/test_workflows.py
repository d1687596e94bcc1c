"""Evaluate, release and roll back over fakes of the ports and a real database."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines import intents
from pipelines.adapters.audit_file import FileAuditHeads
from pipelines.adapters.bundle_store import BundleStore
from pipelines.adapters.database import SqlRecords, now
from pipelines.domain import audit
from pipelines.domain.bundle import digest_of
from pipelines.domain.policy import Policy
from pipelines.domain.promotion import Override, ReleaseState, RunState
from pipelines.domain.records import Evaluation, Lease, Promotion, ReleaseRecord, Rollback
from pipelines.domain.release import Environment, Release, Slot
from pipelines.errors import DatabaseUnavailable, DeployFailed, LostLease, RegistryUnavailable, SlipwayError
from pipelines.executor import carry_out, end_abandoned
from pipelines.ports import Answer, LoadRun
from pipelines.workflows.evaluate import evaluate
from pipelines.workflows.release import release_promotion
from pipelines.workflows.rollback import roll_back
from pipelines.workflows.seat import take_seat
from pipelines.workflows.services import Services, Timing
from tests.fakes import FakeModelRegistry, FakeTarget
from tests.trained import trained

MODEL = "plant-model"
PRODUCTION, STAGING = Environment.PRODUCTION, Environment.STAGING


class PassingProbe:
    """Answers a smoke test as the service would, out of the bundle that was started."""

    def __init__(self, bundles: BundleStore, target: FakeTarget) -> None:
        self._bundles, self._target = bundles, target

    def get(self, url: str) -> Answer:
        release = self._release()
        if url.endswith("/ready"):
            return Answer(200, {"digest": release.bundle_digest, "version": release.version, "pid": 1}, {})
        body = {"stage": "Staging", "status": "ok", "model": release.model}
        return Answer(200, {**body, "version": release.version, "digest": release.bundle_digest}, {})

    def post(self, url: str, content: bytes, headers: dict[str, str]) -> Answer:
        import json

        release = self._release()
        golden = self._bundles.body(release.bundle_digest)["golden"]
        try:
            sent = json.loads(content)
        except ValueError:
            return Answer(400, {"error": {"code": "not_json"}}, {})
        if url.endswith("/batch"):
            return Answer(200, {"predictions": golden["expected"]}, {})
        for row, expected in zip(golden["rows"], golden["expected"], strict=True):
            if sent == row:
                served = {"version": release.version, "request_id": headers.get("x-request-id")}
                return Answer(200, {**expected, **served}, {})
        names = [{"field": name} for name in (*golden["rows"][0], *sent)]
        return Answer(422, {"error": {"code": "invalid_field", "fields": names}}, {})

    def _release(self) -> Any:
        release = self._target.observe(STAGING, Slot.TRIAL).release
        assert release is not None
        return release


class ScriptedLoads:
    """A load runner that answers with `verdict`."""

    def __init__(self) -> None:
        self.verdict = "passed"
        self.plans: list[dict[str, Any]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def run(self, plan: dict[str, Any], rows: list[dict[str, Any]], workdir: Path) -> LoadRun:
        self.plans.append(plan)
        self.meanwhile()
        check = {"name": "p95", "verdict": self.verdict, "observed": 9.0, "interval": [8.0, 10.0], "limit": 100.0}
        return LoadRun({"checks": [{**check, "judged": True, "message": f"{self.verdict} p95"}]}, b"<html>")

    def remove_left(self) -> set[str]:
        return set()


@dataclass
class World:
    services: Services
    registry: FakeModelRegistry
    target: FakeTarget
    loads: ScriptedLoads
    records: SqlRecords
    register: Callable[..., str]

    def step(self, name: str, action: Callable[[], Any]) -> Any:
        return action()

    def evaluated(self, version: str, override: Override | None = None) -> Evaluation:
        asked = intents.request_evaluation(
            self.records, person="alice", model=MODEL, version=version, override=override, now=now()
        )
        evaluate(self.services, asked.id, self.step)
        return self.records.get(Evaluation, asked.id)

    def approved(self, version: str, override: Override | None = None) -> Promotion:
        """Ask for production, let the evaluation run if one is needed, and have bob say yes."""
        asked = intents.request_promotion(
            self.records, person="alice", model=MODEL, version=version, override=override, now=now()
        )
        evaluation = self.records.get(Evaluation, asked.evaluation_id)
        if not evaluation.state.final:
            evaluate(self.services, evaluation.id, self.step)
        self.round()
        evidence = intents.evidence_of(self.records, asked)
        intents.decide(
            self.records, person="bob", promotion_id=asked.id, approved=True, reason="", evidence=evidence, now=now()
        )
        return self.records.get(Promotion, asked.id)

    def promoted(self, version: str, override: Override | None = None) -> Promotion:
        promotion = self.approved(version, override)
        release_promotion(self.services, promotion.id, self.step)
        return self.records.get(Promotion, promotion.id)

    def rolled_back(self) -> Rollback:
        asked = intents.request_rollback(self.records, person="alice", model=MODEL, environment=PRODUCTION, now=now())
        roll_back(self.services, asked.id, self.step)
        return self.records.get(Rollback, asked.id)

    def round(self) -> None:
        """Let the executor move what may move, starting no workflow."""
        carry_out(self.services, {Evaluation: _idle, Promotion: _idle, Rollback: _idle})

    def serving(self, environment: Environment = PRODUCTION) -> str | None:
        release = self.services.serving(MODEL, environment)
        live = self.target.observe(environment, Slot.LIVE).release
        assert (live.id if live else None) == (release.id if release else None)
        return release.version if release else None

    def lifecycle(self, version: str) -> str | None:
        return self.registry.version(MODEL, version).tags.get("lifecycle")

    def apply_policy(self, **accuracy: float) -> None:
        body = policy_body()
        body["gates"]["accuracy"].update(accuracy)
        intents.request_policy(self.records, person="alice", body=body, now=now())
        self.round()


def _idle(work_id: str) -> None:
    return None


def policy_body() -> dict[str, Any]:
    import yaml

    body: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "policy.demo.yaml").read_text())
    body["gates"]["accuracy"]["minimum"] = 0.5
    body["gates"]["comparison"]["margin"] = 0.2
    return body


@pytest.fixture(scope="module")
def plants_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training, whose files every test registers as it likes."""
    return trained(tmp_path_factory.mktemp("plants")).root


@pytest.fixture
def world(tmp_path: Path, plants_home: Path) -> World:
    target, registry, loads = FakeTarget(replicas=2), FakeModelRegistry(), ScriptedLoads()
    bundles = BundleStore(tmp_path / "bundles")
    records = SqlRecords(f"sqlite:///{tmp_path / 'slipway.db'}", FileAuditHeads(tmp_path / "heads"))
    services = Services(
        records=records,
        registry=registry,
        target=target,
        loads=loads,
        probe=PassingProbe(bundles, target),
        bundles=bundles,
        workdir=tmp_path,
        executor="one",
        now=now,
        timing=Timing(converge_s=0.5, registry_s=0.3, watch_s=0.0, poll_s=0.001),
    )
    take_seat(services)
    counter = itertools.count(1)
    evaluation = (plants_home / "data/snapshots/evaluation.parquet").read_bytes()

    def register() -> str:
        # A version of its own digest: the commit is part of a bundle's provenance.
        tags = {"mlflow.source.git.commit": f"commit-{next(counter)}"}
        tags["slipway.dataset.evaluation"] = digest_of(evaluation)
        artifacts = {"slipway/evaluation.parquet": evaluation}
        artifacts["slipway/predictions.parquet"] = (plants_home / "models/predictions.parquet").read_bytes()
        return registry.register(
            MODEL,
            onnx=(plants_home / "models/model.onnx").read_bytes(),
            input_types={"height": "double", "age": "long", "potted": "long", "soil": "string"},
            artifacts=artifacts,
            run_tags=tags,
        ).version

    world = World(services, registry, target, loads, records, register)
    world.apply_policy()
    return world


def test_a_passing_version_becomes_stagings_live_release_with_its_report_attached(world: World) -> None:
    evaluation = world.evaluated(world.register())
    assert (evaluation.state, evaluation.verdict) == (RunState.DONE, "passed")
    assert world.serving(STAGING) == "1"
    assert world.target.observe(STAGING, Slot.TRIAL).release is None
    assert world.registry.aliases(MODEL) == {"staging": "1"}
    assert world.lifecycle("1") == "Staging"
    evidence = world.registry.evidence[MODEL, "1"]
    assert set(evidence) == {"report.json", "report.html", "slo.html", "slo.json"}
    assert digest_of(evidence["report.json"]) == evaluation.report_digest
    assert world.registry.version(MODEL, "1").tags["slipway.report_digest"] == evaluation.report_digest


def test_a_failed_gate_stops_before_staging_and_says_so(world: World) -> None:
    world.apply_policy(minimum=0.999)
    evaluation = world.evaluated(world.register())
    assert evaluation.state is RunState.STOPPED
    assert evaluation.error is not None
    assert evaluation.error["code"] == "gate_failed"
    assert evaluation.error["message"].startswith("FAIL: accuracy=0.")
    assert world.serving(STAGING) is None
    assert world.loads.plans == []
    assert world.lifecycle("1") == "Rejected"


@pytest.mark.parametrize(("minimum", "ends"), [(0.5, RunState.DONE), (0.999, RunState.STOPPED)])
def test_an_evaluation_that_has_ended_holds_staging_no_more(world: World, minimum: float, ends: RunState) -> None:
    world.apply_policy(minimum=minimum)
    asked = intents.request_evaluation(
        world.records, person="alice", model=MODEL, version=world.register(), override=None, now=now()
    )
    held: list[Lease] = []

    def step(name: str, action: Callable[[], Any]) -> Any:
        answer = action()
        if world.records.get(Evaluation, asked.id).state.final:
            held.extend(world.records.find(Lease, holder=asked.id))
        return answer

    evaluate(world.services, asked.id, step)
    assert world.records.get(Evaluation, asked.id).state is ends
    assert held == []


def test_an_slo_that_can_not_be_decided_holds_the_version(world: World) -> None:
    world.loads.verdict = "inconclusive"
    evaluation = world.evaluated(world.register())
    assert evaluation.error is not None
    assert evaluation.error["code"] == "inconclusive"
    assert world.serving(STAGING) is None
    assert world.target.observe(STAGING, Slot.TRIAL).release is None


def test_a_trial_that_crashes_leaves_staging_as_it_was(world: World) -> None:
    first = world.evaluated(world.register())
    second = world.register()
    # The digest of the second bundle is known only once it was made: break every other one.
    world.target.broken = _AllBut({first.bundle_digest or ""})
    evaluation = world.evaluated(second)
    assert evaluation.error is not None
    assert "the crash's last words" in evaluation.error["message"]
    assert world.serving(STAGING) == "1"
    assert world.registry.aliases(MODEL) == {"staging": "1"}


class _AllBut(dict[str, tuple[str, ...]]):
    def __init__(self, good: set[str]) -> None:
        self._good = good

    def __contains__(self, digest: object) -> bool:
        return digest not in self._good and digest != ""

    def __getitem__(self, digest: str) -> tuple[str, ...]:
        return ("the crash's last words",)


def test_promote_moves_the_alias_after_the_replicas_and_archives_the_champion(world: World) -> None:
    first = world.promoted(world.register())
    assert (first.state, first.archived) == (RunState.DONE, None)
    second = world.promoted(world.register())
    assert (second.state, second.archived) == (RunState.DONE, "1")
    assert world.serving() == "2"
    assert world.registry.aliases(MODEL)["production"] == "2"
    assert (world.lifecycle("1"), world.lifecycle("2")) == ("Archived", "Production")
    report = world.records.get(Evaluation, second.evaluation_id).report or {}
    assert report["champion"]["version"] == "1"
    assert {gate["name"]: gate["verdict"] for gate in report["gates"]}["comparison"] == "passed"


def test_promote_keeps_champion_when_candidate_never_becomes_ready(world: World) -> None:
    champion = world.promoted(world.register())
    second = world.approved(world.register())
    digest = world.records.get(Evaluation, second.evaluation_id).bundle_digest or ""
    world.target.hanging.add(digest)
    release_promotion(world.services, second.id, world.step)
    stopped = world.records.get(Promotion, second.id)
    assert stopped.error is not None
    assert stopped.error["code"] == "deploy_failed"
    assert world.serving() == champion.version
    assert world.registry.aliases(MODEL)["production"] == "1"
    failed = world.records.find(ReleaseRecord, environment=PRODUCTION)[-1]
    assert failed.state is ReleaseState.FAILED
    assert world.records.find(Lease, id=f"{MODEL}/production")[0].holder is None


def test_a_registry_that_stays_away_after_the_roll_brings_the_champion_back(world: World) -> None:
    world.promoted(world.register())
    second = world.approved(world.register())

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name == "K8 alias moved":
            world.registry.down = True
        answered = None
        try:
            answered = action()
        finally:
            if name == "K8 alias moved":
                world.registry.down = False
        return answered

    release_promotion(world.services, second.id, step)
    stopped = world.records.get(Promotion, second.id)
    assert stopped.error is not None
    assert (stopped.state, stopped.error["code"]) == (RunState.STOPPED, "deploy_failed")
    assert world.serving() == "1"
    assert world.registry.aliases(MODEL)["production"] == "1"


def test_a_registry_that_is_away_before_anything_moved_refuses_without_a_change(world: World) -> None:
    world.promoted(world.register())
    second = world.approved(world.register())
    world.registry.down = True
    release_promotion(world.services, second.id, world.step)
    stopped = world.records.get(Promotion, second.id)
    assert stopped.error is not None
    assert stopped.error["code"] == RegistryUnavailable.code
    assert world.serving() == "1"
    assert len(world.records.find(ReleaseRecord, environment=PRODUCTION)) == 1


@pytest.mark.parametrize("cut", [f"K{number}" for number in range(11)])
def test_a_release_cut_off_before_any_step_and_begun_again_ends_as_one_release(world: World, cut: str) -> None:
    world.promoted(world.register())
    second = world.approved(world.register())
    journal: dict[str, Any] = {}

    class CutError(BaseException):
        """Stands for the death of the process after a step's effect and before its record."""

    def dying(name: str, action: Callable[[], Any]) -> Any:
        answer = action()
        if name.startswith(f"{cut} "):
            raise CutError
        journal[name] = answer
        return answer

    def resumed(name: str, action: Callable[[], Any]) -> Any:
        return journal[name] if name in journal else action()

    with pytest.raises(CutError):
        release_promotion(world.services, second.id, dying)
    release_promotion(world.services, second.id, resumed)
    assert world.records.get(Promotion, second.id).state is RunState.DONE
    assert world.serving() == "2"
    assert world.registry.aliases(MODEL)["production"] == "2"
    history = world.records.find(ReleaseRecord, environment=PRODUCTION)
    assert [(r.version, r.state) for r in history] == [("1", "superseded"), ("2", "serving")]
    assert world.records.find(Lease, id=f"{MODEL}/production")[0].holder is None


def test_an_executor_that_was_taken_over_can_not_move_the_alias(world: World) -> None:
    world.promoted(world.register())
    second = world.approved(world.register())
    other = Services(**{**world.services.__dict__, "executor": "two"})

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name == "K8 alias moved":
            with world.records.write() as transaction:
                lease = transaction.find(Lease, id=f"{MODEL}/production")[0]
                transaction.change(lease, epoch=lease.epoch + 1, executor=other.executor)
        return action()

    with pytest.raises(LostLease, match=r"lost lease, epoch \d+ < \d+"):
        release_promotion(world.services, second.id, step)
    assert world.registry.aliases(MODEL)["production"] == "1"
    assert world.records.get(Promotion, second.id).state is not RunState.DONE


def test_a_second_promotion_is_refused_with_the_holder_and_since_when(world: World) -> None:
    first, second = world.approved(world.register()), world.approved(world.register())
    refused: list[Promotion] = []

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name == "K5 target updated" and not refused:
            refused.append(second)
            release_promotion(world.services, second.id, world.step)
        return action()

    release_promotion(world.services, first.id, step)
    error = world.records.get(Promotion, second.id).error
    assert error is not None
    assert error["code"] == "lease_held"
    assert f"by {first.id} since" in error["message"]
    assert world.serving() == first.version


def test_an_approval_is_void_when_the_champion_changed(world: World) -> None:
    first, second = world.approved(world.register()), world.approved(world.register())
    release_promotion(world.services, first.id, world.step)
    release_promotion(world.services, second.id, world.step)
    error = world.records.get(Promotion, second.id).error
    assert error is not None
    assert error["code"] == "approval_void"
    assert world.serving() == first.version


def test_an_approval_is_void_when_the_policy_changed(world: World) -> None:
    promotion = world.approved(world.register())
    world.apply_policy(minimum=0.6)
    release_promotion(world.services, promotion.id, world.step)
    error = world.records.get(Promotion, promotion.id).error
    assert error is not None
    assert (error["code"], "policy digest was" in error["message"]) == ("approval_void", True)
    assert world.serving() is None


def test_a_moved_alias_holds_the_promotion(world: World) -> None:
    world.promoted(world.register())
    second = world.approved(world.register())
    world.registry.move_alias(MODEL, "production", "2")
    release_promotion(world.services, second.id, world.step)
    error = world.records.get(Promotion, second.id).error
    assert error is not None
    assert "@production points at version 2" in error["message"]
    assert world.serving() == "1"


def test_an_override_names_its_gates_is_still_approved_and_stays_visible(world: World) -> None:
    world.apply_policy(minimum=0.999)
    override = Override(frozenset({"accuracy"}), "the season changes")
    promotion = world.promoted(world.register(), override)
    assert promotion.state is RunState.DONE
    released = world.records.find(ReleaseRecord, environment=PRODUCTION)[-1]
    assert released.evidence["override"] == {"gates": ["accuracy"], "reason": "the season changes"}
    assert released.evidence["approved_by"] == ["bob"]
    report = world.records.get(Evaluation, promotion.evaluation_id).report or {}
    assert report["verdict"] == "failed"


def test_who_sees_a_promotion_done_can_ask_for_a_rollback_at_once(world: World) -> None:
    world.promoted(world.register())
    promotion = world.approved(world.register())
    rolled_back: list[Rollback] = []

    def step(name: str, action: Callable[[], Any]) -> Any:
        seen = world.records.get(Promotion, promotion.id)
        if seen.state is RunState.DONE and not rolled_back:
            rolled_back.append(world.rolled_back())
        return action()

    release_promotion(world.services, promotion.id, step)
    assert [work.state for work in rolled_back] == [RunState.DONE]
    assert world.serving() == "1"


def test_rollback_restores_the_previous_good_release_and_marks_the_bad_one(world: World) -> None:
    world.promoted(world.register())
    world.promoted(world.register())
    rollback = world.rolled_back()
    assert (rollback.state, rollback.replaced, rollback.version) == (RunState.DONE, "2", "1")
    assert world.serving() == "1"
    assert world.registry.aliases(MODEL)["production"] == "1"
    assert (world.lifecycle("1"), world.lifecycle("2")) == ("Production", "RolledBack")


def test_a_second_rollback_never_returns_to_a_bad_version(world: World) -> None:
    for _ in range(3):
        world.promoted(world.register())
    assert world.rolled_back().version == "2"
    assert world.rolled_back().version == "1"
    refused = world.rolled_back()
    assert refused.error is not None
    assert refused.error["code"] == "no_rollback_target"
    assert world.serving() == "1"


def test_rollback_to_a_bundle_that_was_tampered_with_is_refused_and_the_current_serves(world: World) -> None:
    first = world.promoted(world.register())
    world.promoted(world.register())
    digest = world.records.get(Evaluation, first.evaluation_id).bundle_digest or ""
    world.target.missing.add(digest)
    refused = world.rolled_back()
    assert refused.error is not None
    assert refused.error["code"] == "deploy_failed"
    assert world.serving() == "2"


def test_an_artifact_changed_after_its_pin_is_refused(world: World) -> None:
    version = world.register()
    world.evaluated(version)
    world.registry.overwrite(world.registry.version(MODEL, version), b"other bytes")
    again = world.evaluated(version)
    assert again.error is not None
    assert "digest mismatch, expected sha256:" in again.error["message"]


def test_every_outside_effect_has_its_intent_and_outcome_in_one_valid_chain(world: World) -> None:
    world.promoted(world.register())
    world.promoted(world.register())
    world.rolled_back()
    trail = world.records.audit_trail()
    assert audit.verify(trail, []).valid
    for action in ("release.staging", "release.promotion", "release.rollback", "alias.move"):
        intents_of = [entry.subject for entry in trail if entry.action == action and entry.phase == "intent"]
        outcomes = [entry.subject for entry in trail if entry.action == action and entry.phase == "outcome"]
        assert intents_of
        assert intents_of == outcomes


def test_a_policy_comes_into_force_and_is_audited(world: World) -> None:
    world.apply_policy(minimum=0.7)
    assert world.services.policy().gates.accuracy.minimum == 0.7
    assert Policy.parse(policy_body()).digest != world.services.policy().digest
    assert [entry.phase for entry in world.records.audit_trail() if entry.action == "policy"][-2:] == [
        "intent",
        "outcome",
    ]


def test_a_promotion_that_nobody_decides_on_expires(world: World) -> None:
    version = world.register()
    world.evaluated(version)
    asked = intents.request_promotion(
        world.records, person="alice", model=MODEL, version=version, override=None, now="2020-01-01T00:00:00.000+00:00"
    )
    world.round()
    error = world.records.get(Promotion, asked.id).error
    assert error is not None
    assert SlipwayError.from_dict(error).exit_code == 4


def test_a_report_is_judged_by_the_policy_that_was_in_force_at_its_intake(world: World) -> None:
    version = world.register()
    before = world.services.policy().digest
    asked = intents.request_evaluation(
        world.records, person="alice", model=MODEL, version=version, override=None, now=now()
    )

    def step(name: str, action: Callable[[], Any]) -> Any:
        answer = action()
        if name == "intake":
            world.apply_policy(minimum=0.999)
        return answer

    evaluate(world.services, asked.id, step)
    report = world.records.get(Evaluation, asked.id).report or {}
    assert report["policy_digest"] == before
    assert {gate["name"]: gate["limit"] for gate in report["gates"]}["accuracy"] == 0.5
    assert world.services.policy().digest != before


def test_a_release_that_crashes_while_it_is_watched_is_undone(world: World) -> None:
    world.promoted(world.register())
    second = world.approved(world.register())
    watching = Services(**{**world.services.__dict__, "timing": Timing(0.5, 0.3, 0.5, 0.001)})

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name == "K7 every replica verified":
            threading.Timer(0.1, world.target.lose_a_replica, (PRODUCTION,)).start()
        return action()

    release_promotion(watching, second.id, step)
    error = world.records.get(Promotion, second.id).error
    assert error is not None
    assert error["code"] == "deploy_failed"
    assert "not every replica goes on serving" in error["message"]
    assert world.serving() == "1"


def test_a_lost_answer_of_the_last_record_is_no_failure(world: World) -> None:
    promotion = world.approved(world.register())

    def step(name: str, action: Callable[[], Any]) -> Any:
        answer = action()
        if name == "K9 recorded":
            raise DatabaseUnavailable("recorded, but the answer was lost")
        return answer

    release_promotion(world.services, promotion.id, step)
    assert world.records.get(Promotion, promotion.id).state is RunState.DONE
    assert world.serving() == "1"
    assert world.registry.aliases(MODEL)["production"] == "1"


def test_work_whose_workflow_ended_without_an_outcome_is_ended_and_gives_its_lease_back(world: World) -> None:
    promotion = world.approved(world.register())

    class LostError(Exception):
        """Stands for a workflow that the engine gave up."""

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name == "K5 target updated":
            raise LostError
        return action()

    with world.records.write() as transaction:
        transaction.change(promotion, state=RunState.RUNNING)
    with pytest.raises(LostError):
        release_promotion(world.services, promotion.id, step)
    end_abandoned(world.services, lambda work_id: False)
    assert world.records.get(Promotion, promotion.id).state is RunState.RUNNING
    end_abandoned(world.services, lambda work_id: True)
    ended = world.records.get(Promotion, promotion.id)
    assert (ended.state, (ended.error or {})["code"]) == (RunState.STOPPED, "internal")
    assert world.records.find(Lease, holder=promotion.id) == []
    assert world.records.find(ReleaseRecord, environment=PRODUCTION)[-1].state is ReleaseState.FAILED


def test_a_promotion_that_waits_for_an_evaluation_ends_with_it_when_that_is_abandoned(world: World) -> None:
    version = world.register()
    promotion = intents.request_promotion(
        world.records, person="alice", model=MODEL, version=version, override=None, now=now()
    )
    with world.records.write() as transaction:
        transaction.change(world.records.get(Evaluation, promotion.evaluation_id), state=RunState.RUNNING)
    end_abandoned(world.services, lambda work_id: True)
    ended = world.records.get(Promotion, promotion.id)
    assert (ended.state, (ended.error or {})["code"]) == (RunState.STOPPED, "internal")


def test_a_rollback_of_what_no_longer_serves_is_refused(world: World) -> None:
    for _ in range(3):
        world.promoted(world.register())
    asked = [
        intents.request_rollback(world.records, person=person, model=MODEL, environment=PRODUCTION, now=now())
        for person in ("alice", "bob")
    ]
    for rollback in asked:
        roll_back(world.services, rollback.id, world.step)
    second = world.records.get(Rollback, asked[1].id)
    assert "since this was asked for" in (second.error or {})["message"]
    assert world.serving() == "2"


def test_a_candidate_is_compared_with_the_champion_in_stagings_baseline_slot(world: World) -> None:
    world.promoted(world.register())
    assert "comparison" not in world.loads.plans[-1]
    beside: list[tuple[str, str]] = []

    def look() -> None:
        states = (world.target.observe(STAGING, slot).release for slot in (Slot.TRIAL, Slot.BASELINE))
        beside.append(tuple(release.version for release in states if release))  # type: ignore[arg-type]

    world.loads.meanwhile = look
    evaluation = world.evaluated(world.register())
    assert evaluation.verdict == "passed"
    assert beside == [("2", "1")]
    assert world.loads.plans[-1]["comparison"]["expected_version"] == "1"
    assert world.serving(STAGING) == "2"
    for slot in (Slot.TRIAL, Slot.BASELINE):
        assert world.target.observe(STAGING, slot).release is None


def test_the_first_version_has_nobody_to_be_compared_with_and_says_so(world: World) -> None:
    evaluation = world.evaluated(world.register())
    assert evaluation.report is not None
    (told,) = [gate for gate in evaluation.report["gates"] if gate["name"] == "slo.comparison"]
    assert told["verdict"] == "not_applicable"
    assert evaluation.verdict == "passed"


def test_a_champion_that_does_not_start_beside_it_holds_the_candidate(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.promoted(world.register())
    start = world.target.start

    def refusing(release: Release, slot: Slot, *, epoch: int) -> None:
        if slot is Slot.BASELINE:
            raise DeployFailed("no room")
        start(release, slot, epoch=epoch)

    monkeypatch.setattr(world.target, "start", refusing)
    evaluation = world.evaluated(world.register())
    assert evaluation.error is not None
    assert "the champion v1 did not start: no room" in evaluation.error["message"]
    assert evaluation.verdict == "error"
    assert world.serving(STAGING) == "1"
