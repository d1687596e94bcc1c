"""Further evaluation sets that a policy names: quality is measured on each, by limits of its own, or not passed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.policy import Policy
from pipelines.domain.promotion import Override, RunState
from pipelines.domain.records import Evaluation
from pipelines.errors import PolicyInvalid
from pipelines.evaluation.gates.registry import GATES
from pipelines.evaluation.offline import Material, OfflineTask, ask_offline, measure_offline
from pipelines.evaluation.subject import evalset_path, kept_evaluation_set
from pipelines.packaging.confined import Run
from pipelines.packaging.snapshot import read_snapshot, write_snapshot
from pipelines.ports import JobBounds
from tests.support.world.world import MODEL, World, policy_body

ABSENT = f"sha256:{'1' * 64}"


def named(**sets: Any) -> dict[str, Any]:
    body = policy_body()
    body["evaluation"]["sets"] = sets
    return body


def put_in_force(world: World, **sets: Any) -> None:
    policy = GATES.read_policy(named(**sets))
    commands.request_policy(world.records, person="alice", model=MODEL, policy=policy, now=now())
    world.round()


def gates(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    assert evaluation.report is not None, evaluation.error
    return {gate["name"]: gate for gate in evaluation.report["gates"]}


@pytest.fixture
def measured(world: World) -> Evaluation:
    """The evaluation of a version whose set the policies of these tests name."""
    return world.evaluated(world.register())


def set_of(evaluation: Evaluation) -> str:
    assert evaluation.report is not None
    return str(evaluation.report["evalset_digest"])


def test_quality_is_measured_on_each_set_by_its_own_limits_and_stands_in_the_report(
    world: World, measured: Evaluation
) -> None:
    known = set_of(measured)
    own = {"digest": known, "gates": {"accuracy": {"minimum": 0.4}}}
    put_in_force(world, hard_cases=own, recent={"digest": known})

    again = world.evaluated(measured.version)

    assert again.state is RunState.DONE
    found = gates(again)
    assert [name for name in found if name.startswith("accuracy")] == [
        "accuracy",
        "accuracy.hard_cases",
        "accuracy.recent",
    ]
    hard, recent = found["accuracy.hard_cases"], found["accuracy.recent"]
    assert (hard["verdict"], hard["limit"], recent["limit"]) == ("passed", 0.4, found["accuracy"]["limit"])
    assert hard["message"].endswith("(on hard_cases)")
    assert found["r2.recent"]["verdict"] == "not_applicable"
    assert again.report is not None
    assert again.report["evalsets"] == {"hard_cases": known, "recent": known}


def test_a_version_that_fails_on_one_set_alone_is_stopped(world: World, measured: Evaluation) -> None:
    strict = {"digest": set_of(measured), "gates": {"accuracy": {"minimum": 0.9999}}}
    put_in_force(world, hard_cases=strict)

    stopped = world.evaluated(measured.version)

    found = gates(stopped)
    assert (found["accuracy"]["verdict"], found["accuracy.hard_cases"]["verdict"]) == ("passed", "failed")
    assert (stopped.error or {})["message"].startswith("FAIL: accuracy=")


def test_other_gates_are_measured_on_the_sets_that_the_policy_limits_them_on(
    world: World, measured: Evaluation
) -> None:
    limited: dict[str, Any] = {
        "quality": {"minimum": {"recall": 0.1}},
        "calibration": {"maximum_ece": 0.9},
        "slices": {},
        "fairness": {},
        "comparison": {},
    }
    known = set_of(measured)
    put_in_force(world, hard_cases={"digest": known, "gates": limited}, recent={"digest": known})

    again = world.evaluated(measured.version)

    found = gates(again)
    on_sets = {name: gate for name, gate in found.items() if name.endswith((".hard_cases", ".recent"))}
    assert {name.split(".")[0] for name in on_sets if name.endswith(".recent")} == {"accuracy", "r2"}
    assert {name.split(".")[0] for name in on_sets if name.endswith(".hard_cases")} == {"accuracy", "r2", *limited}
    recall, auc = found["quality.recall.hard_cases"], found["quality.auc.hard_cases"]
    assert (found["quality.recall"]["limit"], recall["limit"], auc["limit"]) == (
        None,
        0.1,
        found["quality.auc"]["limit"],
    )
    assert found["calibration.ece.hard_cases"]["limit"] == 0.9
    assert found["fairness.error.hard_cases"]["limit"] == found["fairness.error"]["limit"]
    assert found["comparison.hard_cases"]["verdict"] == "not_applicable"


def test_a_version_is_compared_with_production_on_a_set_that_limits_the_comparison(
    world: World, measured: Evaluation
) -> None:
    known = set_of(measured)
    world.promoted(measured.version)
    put_in_force(world, hard_cases={"digest": known, "gates": {"comparison": {"margin": 0.3, "widening": 1}}})

    compared = gates(world.evaluated(world.register()))["comparison.hard_cases"]

    assert (compared["limit"], compared["observed"]) == (-0.3, 0.0)
    assert "AUC against production" in compared["message"]


def test_an_override_of_a_gate_is_one_of_all_its_sets(world: World, measured: Evaluation) -> None:
    strict = {"digest": set_of(measured), "gates": {"quality": {"minimum": {"recall": 1.0, "precision": 1.0}}}}
    put_in_force(world, hard_cases=strict)

    stopped = world.evaluated(measured.version)
    overridden = world.evaluated(measured.version, override=Override(frozenset({"quality"}), "not ours yet"))

    assert (stopped.state, gates(stopped)["quality.precision.hard_cases"]["verdict"]) == (RunState.STOPPED, "failed")
    assert overridden.state is RunState.DONE


def test_what_a_job_answers_of_a_set_that_was_not_asked_for_counts_for_nothing(
    world: World, measured: Evaluation, tmp_path: Path
) -> None:
    known = set_of(measured)
    asking = GATES.read_policy(named(hard_cases={"digest": known, "gates": {"calibration": {}}}))
    unasked = GATES.read_policy(named(hard_cases={"digest": known}))
    material = Material(
        measured.bundle_digest or "",
        world.services.bundles.path(measured.bundle_digest or ""),
        champion=None,
        evaluation=kept_evaluation_set(world.services, known),
        predictions=None,
        sets={"hard_cases": kept_evaluation_set(world.services, known)},
    )
    bounds = JobBounds(60, 2048)

    def run(task: bytes, files: Mapping[str, Path]) -> bytes:
        return world.services.jobs.run(task, files, bounds)

    def as_if(policy: Policy) -> Run:
        """Run the job by another policy than it is asked by."""
        other = OfflineTask(bundle_digest=measured.bundle_digest or "", policy=policy.body)
        return lambda task, files: run(other.model_dump_json().encode(), files)

    assert "calibration.ece.hard_cases" in {each.name for each in ask_offline(run, GATES, asking, material).results}
    for asked, answered in ((unasked, asking), (asking, unasked)):
        (refused,) = ask_offline(as_if(answered), GATES, asked, material).results
        assert (refused.gate, refused.verdict) == ("artifact_safety", "error")
        assert "calibration on hard_cases" in refused.message


def test_a_set_is_called_like_no_result_of_a_gate_that_is_measured_on_it() -> None:
    named_so = {"digest": ABSENT, "gates": {"accuracy": {"minimum": 0.1}}}
    GATES.read_policy(named(auc=named_so))

    with pytest.raises(PolicyInvalid, match=r"sets\.auc is called as the result quality\.auc is"):
        GATES.read_policy(named(auc={**named_so, "gates": {"quality": {}}}))


def test_every_result_of_a_gate_is_called_by_one_of_its_parts(measured: Evaluation) -> None:
    parts = {gate.name: gate.parts for gate in GATES.on_named_sets}
    found = [name.split(".") for name in gates(measured)]

    assert {(gate, *part) for gate, *part in found if gate in parts and part and part[0] not in parts[gate]} == set()


def test_a_new_promotion_measures_on_a_set_that_was_named_since_and_says_so(world: World, measured: Evaluation) -> None:
    put_in_force(world, hard_cases={"digest": set_of(measured), "gates": {"accuracy": {"minimum": 0.4}}})

    asked = world.approved(measured.version)

    assert asked.evaluation_id != measured.id
    intent = next(entry for entry in world.records.audited(asked.id) if entry.action == "promotion")
    changed = f"evaluation set hard_cases was none and is {set_of(measured)}"
    assert changed in intent.detail["void"]["changed"]


def test_a_set_that_is_missing_or_was_changed_is_refused(world: World, measured: Evaluation) -> None:
    put_in_force(world, hard_cases={"digest": ABSENT})
    missing = world.evaluated(measured.version)
    assert (missing.state, missing.report) == (RunState.STOPPED, None)
    assert f"the policy's evaluation set hard_cases ({ABSENT}) is not kept here" in (missing.error or {})["message"]

    # As one that was kept under a digest that is not its own.
    place = evalset_path(world.services, ABSENT)
    place.write_bytes(evalset_path(world.services, set_of(measured)).read_bytes())
    changed = world.evaluated(measured.version)
    assert (changed.state, changed.report) == (RunState.STOPPED, None)
    assert f"digest mismatch, expected {ABSENT}" in (changed.error or {})["message"]


@pytest.mark.parametrize(("given", "said"), [("nothing", "its file"), ("another", "digest mismatch, expected")])
def test_a_job_that_was_given_no_set_or_another_measures_an_error(
    world: World, measured: Evaluation, tmp_path: Path, given: str, said: str
) -> None:
    policy = GATES.read_policy(named(hard_cases={"digest": ABSENT}))
    bundle = world.services.bundles.path(measured.bundle_digest or "")
    rows = kept_evaluation_set(world.services, set_of(measured)).read_bytes()
    files = {f"candidate/{each.name}": each.read_bytes() for each in bundle.iterdir()} | {"evaluation.parquet": rows}
    files |= {"set.hard_cases.parquet": rows} if given == "another" else {}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    task = OfflineTask(bundle_digest=measured.bundle_digest or "", policy=policy.body)

    found = {result.name: result for result in measure_offline(task, tmp_path, GATES).results}

    assert found["accuracy"].verdict == "passed"
    assert found["accuracy.hard_cases"].verdict == found["r2.hard_cases"].verdict == "error"
    assert said in found["accuracy.hard_cases"].message


def test_a_set_that_does_not_say_what_is_true_of_a_row_measures_an_error(
    world: World, measured: Evaluation, tmp_path: Path
) -> None:
    kept = kept_evaluation_set(world.services, set_of(measured))
    snapshot = read_snapshot(kept)
    target = snapshot.description.target
    unknown = snapshot.frame.assign(**{target: snapshot.target.where(np.arange(len(snapshot.frame)) != 2, None)})
    digest = write_snapshot(tmp_path / "set.hard_cases.parquet", unknown, snapshot.description)
    bundle = world.services.bundles.path(measured.bundle_digest or "")
    (tmp_path / "candidate").mkdir()
    for each in bundle.iterdir():
        (tmp_path / "candidate" / each.name).write_bytes(each.read_bytes())
    (tmp_path / "evaluation.parquet").write_bytes(kept.read_bytes())
    policy = GATES.read_policy(named(hard_cases={"digest": digest, "gates": {"accuracy": {"minimum": 0.1}}}))
    task = OfflineTask(bundle_digest=measured.bundle_digest or "", policy=policy.body)

    found = {result.name: result for result in measure_offline(task, tmp_path, GATES).results}

    assert (found["accuracy"].verdict, found["accuracy.hard_cases"].verdict) == ("passed", "error")
    assert f"the target '{target}' is empty in row 3 of the evaluation set" in found["accuracy.hard_cases"].message


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ({"hard": {}}, "policy key 'digest' is missing in policy.evaluation.sets.hard"),
        ({"hard": {"digest": "x"}}, "policy.evaluation.sets.hard.digest is 'x'"),
        ({"Hard": {"digest": ABSENT}}, "policy.evaluation.sets.Hard is 'Hard'"),
        ({"hard": {"digest": ABSENT, "weight": 1}}, "unknown policy key 'weight' in policy.evaluation.sets.hard"),
        ({"hard": {"digest": ABSENT, "gates": {"slo": {}}}}, "'slo', which is not measured on further sets"),
        ({"hard": {"digest": ABSENT, "gates": {"drift": {}}}}, "'drift', which is not measured on further sets"),
        (
            {"hard": {"digest": ABSENT, "gates": {"quality": {"minimum": {"auc": 2}}}}},
            "policy.evaluation.sets.hard.gates.quality.minimum.auc is out of range",
        ),
        (
            {"hard": {"digest": ABSENT, "gates": {"accuracy": {"minium": 1}}}},
            "unknown policy key 'minium' in policy.evaluation.sets.hard.gates.accuracy",
        ),
        (
            {"hard": {"digest": ABSENT, "gates": {"accuracy": {"minimum": None}}}},
            "policy.evaluation.sets.hard.gates.accuracy.minimum is empty",
        ),
        ({f"s{n}": {"digest": ABSENT} for n in range(9)}, "policy.evaluation.sets is"),
    ],
)
def test_what_a_policy_can_not_say_of_a_set_is_refused_by_its_key(sets: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyInvalid) as refused:
        GATES.read_policy(named(**sets))

    assert said in refused.value.message


def test_a_policy_without_further_sets_keeps_its_digest() -> None:
    without = policy_body()
    del without["evaluation"]["sets"]

    assert GATES.read_policy(named()).digest == GATES.read_policy(without).digest
