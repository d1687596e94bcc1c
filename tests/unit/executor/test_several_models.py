"""The executor looks after several models: beside each other, and one load run after the other."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines import commands
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import Evaluation, FurtherModel, Lease, ModelState, Promotion, ReleaseRecord, Rollback
from pipelines.domain.release import Endpoint, Environment, Phase, Slot
from pipelines.errors import Cancelled, Refused, UsageError
from pipelines.executor.recovery import Recovery
from pipelines.executor.scheduler import carry_out
from pipelines.governance.progress import progress_of
from pipelines.ports import LoadRun
from pipelines.releases import leases
from pipelines.releases.leader import Succession
from pipelines.releases.leased import Leased
from pipelines.releases.maintenance import move_maintenance, unfinished
from pipelines.releases.removal import remove_model
from pipelines.releases.services import Services
from pipelines.releases.stalled import stalled_work
from tests.support.servers.databases import sqlite_records
from tests.support.world.executors import executor
from tests.support.world.fakes import FakeCheckpoints, FakeModelRegistry, FakeTarget
from tests.support.world.records import MODEL, NOW, add, bundle_digest, put_in_force, release

OTHER = "other-model"
LATER = "2026-01-02T04:00:00.000+00:00"


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """The world of an executor that looks after two models."""
    records = sqlite_records(tmp_path, FakeCheckpoints())
    put_in_force(records)
    commands.add_model(records, person="alice", model=OTHER, default=MODEL, now=NOW)
    return executor(records, "one", lambda: NOW)


def asked(services: Services, model: str, version: str = "1") -> Evaluation:
    return commands.request_evaluation(
        services.records, person="alice", model=model, version=version, override=None, now=NOW
    )


def begun(services: Services) -> list[str]:
    """Let the executor do one round; return the work that it began."""
    started: list[str] = []
    kinds: tuple[type[Leased], ...] = (Evaluation, Promotion, Rollback)
    carry_out(services, dict.fromkeys(kinds, started.append))
    return started


def registered(services: Services, model: str, version: str) -> None:
    registry = services.registry
    assert isinstance(registry, FakeModelRegistry)
    for _ in range(int(version)):
        registry.register(model, onnx=b"", input_types={}, artifacts={}, run_tags={})


def served(services: Services, model: str, environment: Environment, id: str, version: str = "1") -> None:
    """Have a version of a model serve an environment, as its record and its alias say too."""
    record = release(id, version, model=model, environment=environment, bundle_digest=bundle_digest(version))
    add(services.records, record)
    services.target.prepare(record.release.endpoint, record.bundle_digest)
    services.target.start(record.release, Slot.LIVE, epoch=1)
    registered(services, model, version)
    services.registry.move_alias(model, environment, version)


def test_one_evaluation_of_each_model_goes_on_at_a_time(services: Services) -> None:
    first, second, other = asked(services, MODEL), asked(services, MODEL, "2"), asked(services, OTHER)
    assert begun(services) == [first.id, other.id]
    assert begun(services) == []
    assert stalled_work(services.records, LATER) != []
    with services.records.write() as transaction:
        transaction.change(transaction.get(Evaluation, first.id), state=RunState.DONE)
    assert begun(services) == [second.id]


def test_load_runs_take_turns_and_say_so(services: Services) -> None:
    from pipelines.evaluation.trial import LoadsInTurn

    running, may_end, seen = threading.Event(), threading.Event(), []

    class Loads:
        def run(self, plan: dict[str, Any], *others: Any, **more: Any) -> LoadRun:
            seen.append(f"{plan['of']} begins")
            running.set()
            assert may_end.wait(20)
            seen.append(f"{plan['of']} ends")
            return LoadRun({}, b"")

        def remove_left(self) -> set[str]:
            return set()

    services = replace(services, loads=Loads())
    first, other = asked(services, MODEL), asked(services, OTHER)
    runs = [LoadsInTurn(services, each) for each in (first, other)]
    threads = [
        threading.Thread(target=run.run, args=({"of": run.evaluation.id}, [], Path()), daemon=True) for run in runs
    ]
    threads[0].start()
    assert running.wait(20)
    told = threading.Event()

    def ended() -> None:
        told.set()
        raise Cancelled("somebody asked for its end")

    with pytest.raises(Cancelled):
        runs[1].run({"of": "nobody"}, [], Path(), check=ended)
    threads[1].start()
    may_end.set()
    for thread in threads:
        thread.join(20)

    assert seen == [f"{first.id} begins", f"{first.id} ends", f"{other.id} begins", f"{other.id} ends"]
    lines = [line.message for line in progress_of(services.records, other.id)]
    assert lines[0] == f"waiting for the load run of {first.id} ({MODEL})"
    assert progress_of(services.records, first.id) == []


def test_a_model_is_removed_with_its_releases_and_aliases_and_the_other_serves_on(services: Services) -> None:
    for number, environment in enumerate(Environment):
        served(services, OTHER, environment, f"r-{number}")
        served(services, MODEL, environment, f"r-1{number}")
    commands.remove_model(services.records, person="alice", model=OTHER, default=MODEL)

    remove_model(services, OTHER)

    for environment in Environment:
        assert services.target.observe(Endpoint(OTHER, environment), Slot.LIVE).phase is Phase.EMPTY
        assert services.serving(OTHER, environment) is None
        assert services.target.observe(Endpoint(MODEL, environment), Slot.LIVE).wanted_id
        assert services.serving(MODEL, environment)
    assert (services.registry.aliases(OTHER), services.models()) == ({}, [MODEL])
    assert set(services.registry.aliases(MODEL)) == set(Environment)
    kept = services.records.find(ReleaseRecord, model=OTHER)
    assert [each.state for each in kept] == [ReleaseState.SUPERSEDED] * 2
    assert services.records.get(FurtherModel, OTHER).state is ModelState.ARCHIVED
    assert not any(lease.holder for lease in services.records.find(Lease))
    told = [(entry.action, entry.phase) for entry in services.records.audit_trail() if entry.action == "model.remove"]
    assert told == [("model.remove", "intent"), ("model.remove", "outcome")]


def test_nothing_is_asked_for_a_model_whose_removal_was_begun_meanwhile(services: Services) -> None:
    commands.remove_model(services.records, person="alice", model=OTHER, default=MODEL)
    who: dict[str, Any] = {"person": "alice", "model": OTHER, "now": NOW}
    refused = (
        lambda: asked(services, OTHER),
        lambda: commands.request_promotion(services.records, version="1", override=None, **who),
        lambda: commands.request_rollback(services.records, environment=Environment.PRODUCTION, **who),
    )
    for ask in refused:
        with pytest.raises(UsageError, match="other-model is being removed"):
            ask()
    kinds: tuple[type[Leased], ...] = (Evaluation, Promotion, Rollback)
    assert not any(services.records.find(kind) for kind in kinds)
    assert asked(services, MODEL).model == MODEL


def test_a_model_is_not_removed_while_a_set_that_was_added_to_it_waits(services: Services) -> None:
    who = {"person": "alice", "model": OTHER, "now": NOW}
    waiting, _ = commands.add_evaluation_set(services.records, name="hard", digest="sha256:h", run_id="r", **who)

    with pytest.raises(Refused, match=f"under way: {waiting.id}"):
        commands.remove_model(services.records, person="alice", model=OTHER, default=MODEL)

    with services.records.write() as transaction:
        transaction.change(waiting, state=RunState.STOPPED)
    assert commands.remove_model(services.records, person="alice", model=OTHER, default=MODEL)


def test_a_release_that_came_to_nothing_is_undone_with_the_removal(services: Services) -> None:
    half_done = release("r-7", model=OTHER, state=ReleaseState.UNDOING)
    add(services.records, half_done)
    registered(services, OTHER, "1")
    commands.remove_model(services.records, person="alice", model=OTHER, default=MODEL)
    remove_model(services, OTHER)
    assert services.records.get(ReleaseRecord, half_done.id).state is ReleaseState.FAILED
    assert services.records.get(FurtherModel, OTHER).state is ModelState.ARCHIVED


def test_a_removal_that_was_cut_off_is_gone_on_with(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    served(services, OTHER, Environment.PRODUCTION, "r-1")
    commands.remove_model(services.records, person="alice", model=OTHER, default=MODEL)
    broken = replace(services, target=FakeTarget())
    monkeypatch.setattr(broken.target, "restore", _breaks)
    with pytest.raises(Exception, match="not drained"):
        remove_model(broken, OTHER)
    assert services.records.get(FurtherModel, OTHER).state is ModelState.REMOVING
    assert OTHER in services.models()

    recovery = Recovery(services, _Idle(), Succession(None, []))
    recovery.look()
    recovery.wait()

    assert services.records.get(FurtherModel, OTHER).state is ModelState.ARCHIVED
    assert services.target.observe(Endpoint(OTHER, Environment.PRODUCTION), Slot.LIVE).phase is Phase.EMPTY


def test_maintenance_holds_the_environments_of_every_model(services: Services) -> None:
    leases.acquire(services, OTHER, Environment.PRODUCTION, "p-9")
    commands.request_maintenance(services.records, person="alice", model=MODEL, verb="up", now=NOW)
    move_maintenance(services)
    (change,) = unfinished(services.records)
    assert change.state is RunState.REQUESTED
    assert progress_of(services.records, change.id)[-1].message == "for p-9, which changes production"
    leases.give_back(services, "p-9")
    move_maintenance(services)
    held = {lease.id for lease in services.records.find(Lease, holder=change.id)}
    assert held == {f"{model}/{environment}" for model in (MODEL, OTHER) for environment in Environment}


class _Idle:
    """A workflow engine that carries nothing out."""

    def __getattr__(self, name: str) -> Any:
        return lambda *given: False


def _breaks(*given: Any, **more: Any) -> None:
    raise RuntimeError("nobody answers")
