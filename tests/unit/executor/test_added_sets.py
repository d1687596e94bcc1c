"""Sets that people add: fetched, read in a confined job and numbered, or stopped; nothing is ever half-added."""

import threading
from pathlib import Path
from typing import Any

import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.bundle import digest_of
from pipelines.domain.promotion import RunState
from pipelines.domain.records import AddedSet, LeaderLease
from pipelines.errors import LostLease, RegistryUnavailable
from pipelines.evaluation.gates.registry import GATES
from pipelines.evaluation.subject import evalset_path
from pipelines.executor import added_sets, beside
from pipelines.executor.added_sets import take_in, take_sets_in
from pipelines.governance.evalsets import ListedSet, list_sets
from pipelines.packaging.package import EVALUATION_ARTIFACT
from pipelines.training.own_set import write_own_set
from tests.support.world.trained import plants
from tests.support.world.world import MODEL, World, policy_body


@pytest.fixture(scope="session")
def hard(plants_home: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The evaluation set that a file of further plants becomes."""
    place = tmp_path_factory.mktemp("hard")
    plants(80, seed=21).assign(tag=[f"new-{n}" for n in range(80)]).to_csv(place / "hard.csv", index=False)
    write_own_set(plants_home, place / "hard.csv", place / "hard.parquet")
    return (place / "hard.parquet").read_bytes()


def log(world: World, content: bytes) -> str:
    """Log a set on a run, as the trainer's side does; return the run's id."""
    version = world.registry.version(MODEL, world.register())
    world.registry.log_artifact(version.run_id, EVALUATION_ARTIFACT, content)
    return version.run_id


def ask(world: World, content: bytes, *, run_id: str | None = None, name: str = "hard_cases") -> AddedSet:
    asked, _ = commands.add_evaluation_set(
        world.records,
        person="alice",
        model=MODEL,
        name=name,
        digest=digest_of(content),
        run_id=run_id or log(world, content),
        now=now(),
    )
    return asked


def taken_in(world: World, content: bytes, **more: Any) -> AddedSet:
    asked = ask(world, content, **more)
    take_in(world.services, asked)
    return world.records.get(AddedSet, asked.id)


def outcomes(world: World, asked: AddedSet) -> list[dict[str, Any]]:
    return [entry.detail for entry in world.records.audited(asked.id) if entry.phase == "outcome"]


def listed(world: World) -> list[ListedSet]:
    return list_sets(world.records, MODEL)


def test_a_set_is_kept_by_its_digest_numbered_after_the_others_and_audited(world: World, hard: bytes) -> None:
    first = world.evaluated(world.register())

    added = taken_in(world, hard)

    assert (added.state, added.number, added.rows) == (RunState.DONE, 2, 80)
    assert evalset_path(world.services, added.digest).read_bytes() == hard
    assert outcomes(world, added) == [{"name": "hard_cases", "digest": added.digest, "number": 2, "rows": 80}]
    brought, own = listed(world)
    assert (brought.number, brought.version, brought.added) == (1, first.version, None)
    assert (own.number, own.version, own.added) == (2, None, added)
    assert not (world.services.workdir / "work" / added.id).exists()


def test_a_version_is_judged_by_an_added_set_that_the_policy_names(world: World, hard: bytes) -> None:
    added = taken_in(world, hard)
    body = policy_body()
    body["evaluation"] |= {
        "set": added.digest,
        "sets": {"hard_cases": {"digest": added.digest, "gates": {"accuracy": {"minimum": 0.3}, "slices": {}}}},
    }
    commands.request_policy(world.records, person="alice", model=MODEL, policy=GATES.read_policy(body), now=now())
    world.round()

    measured = world.evaluated(world.register())

    assert measured.report is not None, measured.error
    report = measured.report
    assert (report["evalset_digest"], report["evalset_number"]) == (added.digest, 1)
    assert "evalset_version" not in report
    assert {"accuracy.hard_cases", "slices.error.hard_cases"} <= {gate["name"] for gate in report["gates"]}
    own = listed(world)[0]
    assert (own.named, own.in_force, own.judged) == (("hard_cases",), True, (measured.id,))
    # The set that the version brought is the next one.
    assert [each.version for each in listed(world)] == [None, measured.version]


def test_a_set_that_a_version_has_brought_keeps_its_number_and_gets_a_name(world: World) -> None:
    version = world.register()
    world.evaluated(version)
    run_id = world.registry.version(MODEL, version).run_id
    artifact = world.registry.fetch_artifact(run_id, EVALUATION_ARTIFACT, world.services.workdir / "mine")
    assert artifact is not None

    added = taken_in(world, artifact.read_bytes(), run_id=run_id)

    (only,) = listed(world)
    assert (only.number, only.version, only.added) == (1, version, added)


def test_a_file_that_is_another_than_was_asked_for_is_refused(world: World, hard: bytes) -> None:
    run_id = log(world, hard)
    asked = ask(world, b"other bytes", run_id=run_id)

    take_in(world.services, asked)

    stopped = world.records.get(AddedSet, asked.id)
    assert (stopped.state, stopped.number) == (RunState.STOPPED, None)
    assert f"expected {asked.digest} got {digest_of(hard)}" in (stopped.error or {})["message"]
    assert not evalset_path(world.services, asked.digest).exists()
    assert [each["code"] for each in outcomes(world, asked)] == ["refused"]
    assert listed(world) == []


@pytest.mark.parametrize("content", [b"PAR1 and nothing else", b""])
def test_what_is_no_set_is_refused_by_the_job_and_not_kept(world: World, content: bytes) -> None:
    stopped = taken_in(world, content)

    assert (stopped.state, (stopped.error or {})["code"]) == (RunState.STOPPED, "not_servable")
    assert not evalset_path(world.services, stopped.digest).exists()


def test_rows_that_do_not_fit_what_serves_are_refused(world: World, plants_home: Path, tmp_path: Path) -> None:
    world.promoted(world.register())
    text = (plants_home / "model.yaml").read_text().replace("outcome", "result")
    (tmp_path / "model.yaml").write_text(text)
    plants(60).rename(columns={"outcome": "result"}).to_csv(tmp_path / "other.csv", index=False)
    write_own_set(tmp_path, tmp_path / "other.csv", tmp_path / "other.parquet")

    stopped = taken_in(world, (tmp_path / "other.parquet").read_bytes())

    assert "the target of the evaluation set is result, and outcome" in (stopped.error or {})["message"]


def test_a_set_that_was_refused_can_be_added_again_once_that_is_mended(world: World, hard: bytes) -> None:
    run_id = log(world, b"broken")
    first = ask(world, hard, run_id=run_id)
    take_in(world.services, first)
    world.registry.log_artifact(run_id, EVALUATION_ARTIFACT, hard)

    again = taken_in(world, hard, run_id=run_id)

    assert (again.id != first.id, again.state) == (True, RunState.DONE)


class Killed(BaseException):
    """The end of the process: nothing catches it."""


def test_a_killed_executors_successor_takes_the_set_in_and_nothing_is_half_added(
    world: World, hard: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ask(world, hard)

    def killed(*_: object) -> None:
        raise Killed

    # After the file was kept, before that is on record.
    with monkeypatch.context() as patched:
        patched.setattr(added_sets, "set_numbers", killed)
        with pytest.raises(Killed):
            take_in(world.services, asked)
    cut_off = world.records.get(AddedSet, asked.id)
    assert (cut_off.state, cut_off.number, listed(world), outcomes(world, asked)) == (RunState.RUNNING, None, [], [])

    take_in(world.services, cut_off)

    assert world.records.get(AddedSet, asked.id).state is RunState.DONE
    assert [each.number for each in listed(world)] == [1]
    assert len(outcomes(world, asked)) == 1


def test_who_is_no_executor_any_more_adds_nothing(world: World, hard: bytes) -> None:
    asked = ask(world, hard)
    with world.records.write() as transaction:
        transaction.change(transaction.get(LeaderLease, "executor"), executor="two")

    with pytest.raises(LostLease):
        take_in(world.services, asked)

    assert world.records.get(AddedSet, asked.id).state is RunState.REQUESTED


def test_a_registry_that_is_away_stops_the_set_with_what_to_do(world: World, hard: bytes) -> None:
    asked = ask(world, hard)
    world.registry.down = True

    take_in(world.services, asked)

    stopped = world.records.get(AddedSet, asked.id)
    assert (stopped.state, (stopped.error or {})["code"]) == (RunState.STOPPED, RegistryUnavailable.code)


def test_the_executor_takes_in_what_is_asked_for_and_what_a_former_one_began(
    world: World, hard: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "LOOK_S", 0.01)
    cut_off, fresh = ask(world, hard), ask(world, hard + b" ", name="broken")
    with world.records.write() as transaction:
        transaction.change(cut_off, state=RunState.RUNNING)
    stopped = threading.Event()
    thread = threading.Thread(target=take_sets_in, args=(world.services, stopped))
    thread.start()
    listener = world.records.listen()
    while any(not each.state.final for each in world.records.find(AddedSet)):
        listener.wait(0.05)
    stopped.set()
    thread.join()
    listener.close()

    states = [world.records.get(AddedSet, each.id).state for each in (cut_off, fresh)]
    assert states == [RunState.DONE, RunState.STOPPED]
