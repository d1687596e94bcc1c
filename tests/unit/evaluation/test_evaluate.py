"""Evaluations over fakes of the ports and a real database: gates, staging, evidence."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.bundle import digest_of
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import Evaluation, Lease, ReleaseRecord
from pipelines.domain.release import Endpoint, Environment, Phase, Release, Slot, SlotState
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import DeployFailed
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.gates.registry import GATES
from pipelines.evaluation.subject import workdir_of
from pipelines.packaging.snapshot import read_snapshot, write_snapshot
from pipelines.ports import HttpReply
from tests.support.world.world import MODEL, PRODUCTION, STAGING, World, policy_body


def test_a_passing_version_becomes_stagings_live_release_with_its_report_attached(world: World) -> None:
    evaluation = world.evaluated(world.register())
    assert (evaluation.state, evaluation.verdict) == (RunState.DONE, "passed")
    assert world.serving(STAGING) == "1"
    assert world.target.observe(Endpoint(MODEL, STAGING), Slot.TRIAL).release is None
    assert world.registry.aliases(MODEL) == {"staging": "1"}
    assert world.lifecycle("1") == "Staging"
    evidence = world.registry.evidence[MODEL, "1"]
    assert set(evidence) == {"report.json", "report.html", "model-card.md", "slo.html", "slo.json"}
    assert digest_of(evidence["report.json"]) == evaluation.report_digest
    assert world.registry.version(MODEL, "1").tags["slipway.report_digest"] == evaluation.report_digest


def test_a_version_says_first_what_people_decide_by_and_keeps_what_a_person_wrote(world: World) -> None:
    world.promoted(world.register())
    version = world.register(**{"slipway.card.intended_use": "To water *few* plants."})
    world.registry.set_description(MODEL, version, "Ask Carol.")
    evaluation = world.evaluated(version)
    told = world.registry.version(MODEL, version).description
    assert told.startswith("Ask Carol.\n\n<!-- slipway: report -->\n**May it go to production?**")
    assert f"Report {evaluation.report_digest}" in told
    world.evaluated(version)
    assert world.registry.version(MODEL, version).description.count("May it go to production?") == 1
    evidence = world.registry.evidence[MODEL, version]
    assert r"To water \*few\* plants." in evidence["model-card.md"].decode()
    page = evidence["report.html"].decode()
    assert "<strong>ROC</strong>" in page
    assert "<strong>Scores, against production</strong>" in page
    assert "0 of 106 rows (0.0%) are decided otherwise than by version 1" in page


def test_the_report_of_a_stopped_version_is_drawn_as_well(world: World) -> None:
    world.apply_policy(minimum=0.999)
    version = world.register()
    world.evaluated(version)
    page = world.registry.evidence[MODEL, version]["report.html"].decode()
    assert "No. Stopped by accuracy." in page
    assert "<strong>Calibration</strong>" in page
    assert "No. Stopped by accuracy." in world.registry.version(MODEL, version).description


def test_what_the_offline_gates_left_in_a_journal_of_before_figures_is_taken_up(world: World) -> None:
    asked = commands.request_evaluation(
        world.records, person="alice", model=MODEL, version=world.register(), override=None, now=now()
    )

    def step(name: str, action: Callable[[], Any]) -> Any:
        answer = action()
        return answer["results"] if name == "offline gates" else answer

    evaluate(world.services, asked.id, step)
    evaluation = world.records.get(Evaluation, asked.id)
    assert evaluation.verdict == "passed"
    assert "figures" not in (evaluation.report or {})


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
    asked = commands.request_evaluation(
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
    assert world.target.observe(Endpoint(MODEL, STAGING), Slot.TRIAL).release is None


def slow(verdict: str) -> dict[str, Any]:
    """Return what a load run of a slow version leaves: a no, and whether its generator was sound enough for it."""

    def check(name: str, verdict: str) -> dict[str, Any]:
        numbers = {"observed": 104.0, "interval": None, "limit": 100.0}
        return {"name": name, "verdict": verdict, "judged": True, "message": f"{verdict} {name}", **numbers}

    generator = "inconclusive" if verdict == "inconclusive" else "passed"
    checks = [check("p95", "failed"), check("generator_cpu", generator)]
    return {"verdict": verdict, "via": "direct", "checks": checks}


def test_a_disturbed_load_run_holds_a_version_and_rejects_none(world: World) -> None:
    world.loads.result = slow("inconclusive")
    evaluation = world.evaluated(world.register())
    assert evaluation.error is not None
    assert (evaluation.verdict, evaluation.error["code"]) == ("inconclusive", "inconclusive")
    assert "measure again when the machine is quiet" in evaluation.error["next"]
    assert world.lifecycle("1") == "Candidate"


def test_a_slow_version_is_rejected(world: World) -> None:
    world.loads.result = slow("failed")
    evaluation = world.evaluated(world.register())
    assert evaluation.verdict == "failed"
    assert world.lifecycle("1") == "Rejected"


def new_release(world: World, state: ReleaseState) -> str:
    """Record a release of production beside the one that serves, and return its id."""
    (served,) = world.records.find(ReleaseRecord, environment=PRODUCTION, state=ReleaseState.SERVING)
    with world.records.write() as transaction:
        release = replace(served, id=transaction.new_id(ReleaseRecord), state=state, serving_at=None)
        transaction.add(release)
    return release.id


def turn(world: World, release_id: str, state: ReleaseState) -> None:
    with world.records.write() as transaction:
        transaction.change(transaction.get(ReleaseRecord, release_id), state=state, ended_at=now())


@pytest.mark.parametrize("ends", [None, ReleaseState.FAILED, ReleaseState.SUPERSEDED])
@pytest.mark.parametrize("begins", ["before", "meanwhile"])
def test_a_release_under_way_during_the_load_run_holds_the_version(
    world: World, begins: str, ends: ReleaseState | None
) -> None:
    world.promoted(world.register())
    version = world.register()
    begun = [new_release(world, ReleaseState.STARTING)] if begins == "before" else []

    def meanwhile() -> None:
        begun[:] = begun or [new_release(world, ReleaseState.STARTING)]
        if ends:
            turn(world, begun[0], ends)

    world.loads.meanwhile = meanwhile
    world.loads.verdict = "failed"
    evaluation = world.evaluated(version)
    assert evaluation.verdict == "inconclusive"
    assert evaluation.error is not None
    assert f"a release was under way during the load run: {begun[0]}" in evaluation.error["message"]
    assert world.lifecycle(version) == "Candidate"


@pytest.mark.parametrize(("says", "verdict"), [("passed", "passed"), ("failed", "inconclusive")])
def test_a_release_of_another_model_during_the_load_run_keeps_a_no_from_counting_and_no_yes(
    world: World, says: str, verdict: str
) -> None:
    world.promoted(world.register())
    version = world.register()
    other = replace(world.services.serving(MODEL, Environment.PRODUCTION), id="r-99", model="other-model")  # type: ignore[type-var]

    def meanwhile() -> None:
        with world.records.write() as transaction:
            transaction.put(replace(other, state=ReleaseState.STARTING))

    world.loads.meanwhile, world.loads.verdict = meanwhile, says
    evaluation = world.evaluated(version)
    assert evaluation.verdict == verdict
    if evaluation.error:
        assert "another model was released during the load run: r-99" in evaluation.error["message"]


def test_a_release_that_ended_before_the_load_run_disturbs_nothing(world: World) -> None:
    world.promoted(world.register())
    turn(world, new_release(world, ReleaseState.STARTING), ReleaseState.FAILED)
    assert world.evaluated(world.register()).verdict == "passed"


@pytest.mark.parametrize("slot", [Slot.TRIAL, Slot.BASELINE])
def test_a_slot_that_does_not_empty_says_nothing_of_the_version(
    world: World, monkeypatch: pytest.MonkeyPatch, slot: Slot
) -> None:
    world.promoted(world.register())
    stop = world.target.stop

    def all_but(environment: Environment, stopped: Slot, *, epoch: int) -> None:
        if stopped is not slot:
            stop(environment, stopped, epoch=epoch)

    monkeypatch.setattr(world.target, "stop", all_but)
    version = world.register()
    evaluation = world.evaluated(version)
    assert evaluation.error is not None
    assert evaluation.error["code"] == "deploy_failed"
    assert evaluation.error["message"] == f"the {slot} slot of {MODEL} in staging does not empty"
    assert evaluation.report is None
    assert world.lifecycle(version) == "Candidate"


def test_a_first_request_that_times_out_is_a_no_where_the_policy_limits_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = policy_body()
    body["slo"]["first_request_ms"] = 500
    commands.request_policy(world.records, person="alice", model=MODEL, policy=GATES.read_policy(body), now=now())
    world.round()
    post = world.services.probe.post
    waits: list[float | None] = []

    def slow_at_first(
        url: str, content: bytes, headers: dict[str, str], *, timeout_s: float | None = None
    ) -> HttpReply:
        waits.append(timeout_s)
        if len(waits) == 1:
            raise DeployFailed("timed out")
        return post(url, content, headers, timeout_s=timeout_s)

    monkeypatch.setattr(world.services.probe, "post", slow_at_first)
    evaluation = world.evaluated(world.register())
    assert evaluation.error is not None
    assert evaluation.error["message"].startswith("FAIL: first_request=inf ms > 500 ms")
    assert waits[0] == body["slo"]["timeout_s"]
    assert world.loads.plans == []


def test_a_trial_that_crashes_leaves_staging_as_it_was(world: World) -> None:
    first = world.evaluated(world.register())
    second = world.register()
    # The digest of the second bundle is known only once it was made: break every other one.
    world.target.broken = _AllBut({first.bundle_digest or ""})
    evaluation = world.evaluated(second)
    assert evaluation.error is not None
    assert "the crash's last words" in evaluation.error["message"]
    assert (evaluation.verdict, evaluation.error["code"]) == ("failed", "gate_failed")
    assert world.serving(STAGING) == "1"
    assert world.registry.aliases(MODEL) == {"staging": "1"}


def test_a_version_that_the_place_does_not_let_try_is_not_rejected(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(endpoint: Endpoint, bundle_digest: str) -> None:
        raise DeployFailed("the image registry refused: connection refused")

    monkeypatch.setattr(world.target, "prepare", away)
    evaluation = world.evaluated(world.register())
    told = "ERROR: smoke: version 1 could not be tried: the image registry refused: connection refused"
    assert evaluation.error is not None
    assert (evaluation.error["message"], evaluation.error["code"]) == (told, "gate_error")
    assert evaluation.verdict == "error"
    assert world.lifecycle("1") == "Candidate"


def test_a_trial_slot_that_fails_for_want_of_room_rejects_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    observe = world.target.observe

    def full(endpoint: Endpoint, slot: Slot) -> SlotState:
        state = observe(endpoint, slot)
        if slot is not Slot.TRIAL or not state.release:
            return state
        return replace(state, phase=Phase.FAILED, failure="trial-1 finds no node: no suitable node")

    monkeypatch.setattr(world.target, "observe", full)
    asked = commands.request_evaluation(
        world.records, person="alice", model=MODEL, version=world.register(), override=None, now=now()
    )

    def step(name: str, action: Callable[[], Any]) -> Any:
        if name == "trial stopped":
            monkeypatch.undo()
        return action()

    evaluate(world.services, asked.id, step)
    evaluation = world.records.get(Evaluation, asked.id)
    assert evaluation.error is not None
    assert "ERROR: smoke: version 1 could not be tried: trial-1 finds no node" in evaluation.error["message"]
    assert (evaluation.verdict, world.lifecycle("1")) == ("error", "Candidate")


def test_a_trial_whose_replicas_answer_as_another_bundle_is_not_measured(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe = world.target.observe

    def as_another(endpoint: Endpoint, slot: Slot) -> SlotState:
        state = observe(endpoint, slot)
        others = tuple(replace(replica, digest="sha256:other") for replica in state.replicas)
        return replace(state, replicas=others) if slot is Slot.TRIAL else state

    monkeypatch.setattr(world.target, "observe", as_another)
    evaluation = world.evaluated(world.register())
    assert evaluation.error is not None
    told = f"FAIL: smoke: version 1 did not start: the trial slot does not serve {evaluation.bundle_digest}"
    assert evaluation.error["message"] == told
    assert world.loads.plans == []
    assert world.serving(STAGING) is None


class _AllBut(dict[str, tuple[str, ...]]):
    def __init__(self, good: set[str]) -> None:
        self._good = good

    def __contains__(self, digest: object) -> bool:
        return digest not in self._good and digest != ""

    def __getitem__(self, digest: str) -> tuple[str, ...]:
        return ("the crash's last words",)


def test_an_artifact_changed_after_its_pin_is_refused(world: World) -> None:
    version = world.register()
    world.evaluated(version)
    world.registry.overwrite(world.registry.version(MODEL, version), b"other bytes")
    again = world.evaluated(version)
    assert again.error is not None
    assert "digest mismatch, expected sha256:" in again.error["message"]


def test_a_report_is_judged_by_the_policy_that_was_in_force_at_its_packaging(world: World) -> None:
    version = world.register()
    before = world.services.policy(MODEL).digest
    asked = commands.request_evaluation(
        world.records, person="alice", model=MODEL, version=version, override=None, now=now()
    )

    def step(name: str, action: Callable[[], Any]) -> Any:
        answer = action()
        if name == "packaging":
            world.apply_policy(minimum=0.999)
        return answer

    evaluate(world.services, asked.id, step)
    report = world.records.get(Evaluation, asked.id).report or {}
    assert report["policy_digest"] == before
    assert {gate["name"]: gate["limit"] for gate in report["gates"]}["accuracy"] == 0.5
    assert world.services.policy(MODEL).digest != before


def test_a_candidate_is_compared_with_the_champion_in_stagings_baseline_slot(world: World) -> None:
    world.promoted(world.register())
    assert "comparison" not in world.loads.plans[-1]
    beside: list[tuple[str, str]] = []

    def look() -> None:
        states = (world.target.observe(Endpoint(MODEL, STAGING), slot).release for slot in (Slot.TRIAL, Slot.BASELINE))
        beside.append(tuple(release.version for release in states if release))  # type: ignore[arg-type]

    world.loads.meanwhile = look
    evaluation = world.evaluated(world.register())
    assert evaluation.verdict == "passed"
    assert beside == [("2", "1")]
    assert world.loads.plans[-1]["comparison"]["expected_version"] == "1"
    assert world.serving(STAGING) == "2"
    for slot in (Slot.TRIAL, Slot.BASELINE):
        assert world.target.observe(Endpoint(MODEL, STAGING), slot).release is None


def test_the_first_version_has_nobody_to_be_compared_with_and_says_so(world: World) -> None:
    evaluation = world.evaluated(world.register())
    assert evaluation.report is not None
    (told,) = [gate for gate in evaluation.report["gates"] if gate["name"] == "slo.p99_ratio"]
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


def test_a_version_is_downloaded_once_an_evaluation(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    model, artifact = world.registry.fetch_model, world.registry.fetch_artifact

    def fetch_model(version: RegisteredVersion, into: Path) -> None:
        asked.append("model")
        model(version, into)

    def fetch_artifact(run_id: str, path: str, into: Path) -> Path | None:
        asked.append(path)
        return artifact(run_id, path, into)

    monkeypatch.setattr(world.registry, "fetch_model", fetch_model)
    monkeypatch.setattr(world.registry, "fetch_artifact", fetch_artifact)
    assert world.evaluated(world.register()).verdict == "passed"
    artifacts = [f"slipway/{name}.parquet" for name in ("evaluation", "predictions", "reference", "training-rows")]
    assert sorted(asked) == ["model", *artifacts]


def after_packaging(world: World, change: Callable[[Evaluation], None]) -> Evaluation:
    """Evaluate a new version, and change what lies on the disk once it was packaged."""
    asked = commands.request_evaluation(
        world.records, person="alice", model=MODEL, version=world.register(), override=None, now=now()
    )

    def step(name: str, action: Callable[[], Any]) -> Any:
        answer = action()
        if name == "packaging":
            change(asked)
        return answer

    evaluate(world.services, asked.id, step)
    return world.records.get(Evaluation, asked.id)


def predictions_of(world: World, evaluation: Evaluation) -> Path:
    return workdir_of(world.services, evaluation) / "predictions" / "slipway" / "predictions.parquet"


@pytest.mark.parametrize("how", ["lost", "changed"])
def test_predictions_that_a_step_left_are_used_only_while_they_are_the_same(world: World, how: str) -> None:
    def spoil(evaluation: Evaluation) -> None:
        kept = predictions_of(world, evaluation)
        if how == "lost":
            kept.unlink()
        else:
            kept.write_bytes(b"other bytes")

    evaluation = after_packaging(world, spoil)
    assert evaluation.report is not None
    assert {gate["name"]: gate["verdict"] for gate in evaluation.report["gates"]}["parity"] == "passed"
    assert evaluation.verdict == "passed"


def test_an_evaluation_set_changed_on_the_disk_judges_nothing(world: World) -> None:
    def spoil(evaluation: Evaluation) -> None:
        (kept,) = (world.services.workdir / "evaluation-sets").glob("*.parquet")
        other = other_set(world, evaluation)
        kept.write_bytes(other)

    evaluation = after_packaging(world, spoil)
    assert evaluation.error is not None
    assert "digest mismatch, expected sha256:" in evaluation.error["message"]
    assert "was changed after it was kept" in evaluation.error["message"]
    assert evaluation.report is None
    assert world.evaluated(evaluation.version).verdict == "passed"


def test_a_version_without_rows_of_its_own_is_not_judged_by_a_set_that_was_changed(world: World) -> None:
    known = world.register()
    evaluation = world.evaluated(known)
    (kept,) = (world.services.workdir / "evaluation-sets").glob("*.parquet")
    kept.write_bytes(other_set(world, evaluation))

    ended = world.evaluated(without_a_set(world))

    assert ended.error is not None and ended.report is None
    assert "was changed after it was kept" in ended.error["message"]


def without_a_set(world: World) -> str:
    """Register a version that brings no evaluation set."""
    bare = world.register()
    world.registry.forget_artifact(world.registry.version(MODEL, bare), "slipway/evaluation.parquet")
    return bare


def rejected_with_a_set_of_its_own(world: World) -> str:
    """Register a version with a set of wrong labels and have it measured."""
    snapshot = read_snapshot(next((world.services.workdir / "evaluation-sets").glob("*.parquet")))
    target, classes = snapshot.description.target, snapshot.description.classes
    wrong = dict(zip(classes, reversed(classes), strict=True))
    path = world.services.workdir / "wrong.parquet"
    write_snapshot(path, snapshot.frame.assign(**{target: snapshot.frame[target].map(wrong)}), snapshot.description)
    version = world.register(evaluation=path.read_bytes())
    assert world.evaluated(version).verdict == "failed"
    return version


@pytest.mark.parametrize("serving", [True, False], ids=["the-champions", "that-of-the-last-one-to-pass"])
def test_a_rejected_version_does_not_choose_what_others_are_judged_by(world: World, serving: bool) -> None:
    good = world.register()
    if serving:
        world.promoted(good)
    known = world.evaluated(good).report or {}
    rejected_with_a_set_of_its_own(world)

    judged = world.evaluated(without_a_set(world))

    assert judged.report is not None
    assert (judged.report["evalset_digest"], judged.report["evalset_version"]) == (known["evalset_digest"], good)
    assert judged.verdict == "passed"
    assert f"brought by version {good}" in world.registry.evidence[MODEL, judged.version]["report.html"].decode()


def test_a_version_without_a_set_is_not_judged_where_none_that_passed_has_one(world: World) -> None:
    world.apply_policy(minimum=0.999)
    world.evaluated(world.register())

    ended = world.evaluated(without_a_set(world))

    assert ended.error is not None and ended.error["code"] == "not_servable"
    assert "no version that serves or passed has one" in ended.error["message"]


def other_set(world: World, evaluation: Evaluation) -> bytes:
    """Return a sound evaluation set with one row less."""
    path = workdir_of(world.services, evaluation) / "other.parquet"
    kept = next((world.services.workdir / "evaluation-sets").glob("*.parquet"))
    snapshot = read_snapshot(kept)
    write_snapshot(path, snapshot.frame.iloc[1:], snapshot.description)
    return path.read_bytes()


def test_an_evaluation_that_was_packaged_before_predictions_were_kept_by_digest_goes_on(world: World) -> None:
    asked = commands.request_evaluation(
        world.records, person="alice", model=MODEL, version=world.register(), override=None, now=now()
    )

    def step(name: str, action: Callable[[], Any]) -> Any:
        answer = action()
        if name == "packaging":
            predictions_of(world, asked).unlink()
            del answer["predictions"]
        # The journal gives back JSON, and nothing but JSON.
        return json.loads(json.dumps(answer))

    evaluate(world.services, asked.id, step)
    report = world.records.get(Evaluation, asked.id).report or {}
    assert {gate["name"]: gate["verdict"] for gate in report["gates"]}["parity"] == "passed"
