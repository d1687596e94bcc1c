"""An operator's hold, asked of a real API and of an executor that does its rounds in a thread."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.adapters.containers.maintenance_hold import HoldPatience, MaintenanceHold
from pipelines.adapters.containers.secret_store import SecretStore
from pipelines.adapters.database.records import now
from pipelines.api.app import create_app
from pipelines.api.client import ApiClient, executor_silence
from pipelines.api.state import ApiState
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Evaluation, FurtherModel, LeaderLease, Lease, Maintenance, Promotion, Rollback
from pipelines.domain.release import Environment, Slot
from pipelines.errors import DeployFailed, LeaseHeld, SlipwayError, TargetUnavailable, Undecided, UnknownModel
from pipelines.executor.scheduler import carry_out
from pipelines.releases import leases
from pipelines.releases.leader import renew_leader_lease, take_leader_lease
from pipelines.releases.reconcile import observe_environment
from pipelines.settings.settings import Settings
from pipelines.settings.tokens import make_tokens, read_tokens
from tests.support.servers.databases import sqlite_records
from tests.support.servers.servers import free_port
from tests.support.world.executors import executor
from tests.support.world.fakes import FakeCheckpoints, FakeVersions
from tests.support.world.records import MODEL, add, bundle_digest, put_in_force, release

PRODUCTION = Environment.PRODUCTION
# As much as a busy machine may need where something is awaited, little where it is awaited in vain.
PATIENCE = HoldPatience(turn_s=30.0, look_s=30.0, proof_s=30.0, give_back_s=30.0)
IN_VAIN = HoldPatience(turn_s=5.0, look_s=30.0, proof_s=1.0, give_back_s=2.0)


class Ahead(datetime):
    """The clock of an operator's machine that is half a minute ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "Ahead":
        return super().now(tz) + timedelta(seconds=30)


class Installation:
    """What an operator's hold meets: records, an API on a port, an executor, and a target that serves version 1."""

    def __init__(self, home: Path) -> None:
        make_tokens(home / "tokens.json")
        (home / "model.yaml").write_text(f"name: {MODEL}\n")
        port = str(free_port())
        self.settings = Settings.from_environ(
            {"SLIPWAY_HOME": str(home), "SLIPWAY_PROJECT": str(home), "SLIPWAY_PORT_API": port}
        )
        self.records = sqlite_records(home, FakeCheckpoints())
        put_in_force(self.records)
        self.services = executor(self.records, "x1", now)
        take_leader_lease(self.services)
        self.serve("1")
        self.told: list[str] = []
        self.work: list[str] | SlipwayError = []

    def hold(self, patience: HoldPatience = PATIENCE) -> MaintenanceHold:
        return MaintenanceHold(
            partial(ApiClient, self.settings),
            executor_silence,
            self.settings.home,
            self.settings.tokens_file,
            work=self.ask_inside,
            patience=patience,
        )

    def ask_inside(self) -> list[str]:
        """Stand for what is run in the executor's container."""
        if isinstance(self.work, SlipwayError):
            raise self.work
        return self.work

    def serve(self, version: str, model: str = MODEL) -> None:
        target, wanted = self.services.target, replace(release(f"r-{version}", version).release, model=model)
        target.start(wanted, Slot.LIVE, epoch=1)
        await_until(lambda: target.observe(wanted.endpoint, Slot.LIVE).serves(wanted))

    def holders(self) -> set[str | None]:
        return {lease.holder for lease in self.records.find(Lease)}

    def changes(self) -> list[tuple[str, RunState]]:
        return [(change.verb, change.state) for change in self.records.find(Maintenance)]

    def fall_silent(self) -> None:
        """Have the executor show itself for the last time at the beginning of 2026."""
        with self.records.write() as transaction:
            (leader,) = transaction.find(LeaderLease)
            transaction.change(leader, heartbeat_at="2026-01-01T00:00:00.000+00:00", beat_s=0.0)

    @contextmanager
    def api(self, *, lacking: str = "", tells_age: bool = True) -> Iterator[None]:
        tokens = read_tokens(self.settings.tokens_file)
        state = ApiState(self.records, FakeCheckpoints(), FakeVersions("1"), MODEL, tokens)
        app: ASGIApp = create_app(state)
        if not tells_age:
            app = ageless(app)
        if lacking:
            app = without(app, f"/api/v1/{lacking}")
        self.feed = state.feed
        config = uvicorn.Config(
            app, host="127.0.0.1", port=self.settings.api_port, log_level="error", lifespan="off", ws="none"
        )
        server = uvicorn.Server(config)
        with in_thread(server.run):
            try:
                await_until(lambda: server.started)
                yield
            finally:
                server.should_exit = True

    @contextmanager
    def executor(self) -> Iterator[None]:
        stop = threading.Event()
        idle = dict.fromkeys((Evaluation, Promotion, Rollback), lambda work_id: None)

        def rounds() -> None:
            while not stop.wait(0.02):
                renew_leader_lease(self.services)
                carry_out(self.services, idle)
                for model in self.services.models():
                    for environment in Environment:
                        observe_environment(self.services, model, environment)

        with in_thread(rounds):
            try:
                yield
            finally:
                stop.set()


def without(app: ASGIApp, path: str) -> ASGIApp:
    """Return an API that knows nothing of `path`."""

    async def older(scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope.get("path", "").replace(path, "/api/v1/nothing")
        await app({**scope, "path": asked, "raw_path": asked.encode()}, receive, send)

    return older


def ageless(app: ASGIApp) -> ASGIApp:
    """Return an API of before, which tells no age of the executor's last sign."""

    async def older(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_ageless(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [each for each in message["headers"] if each[0] != b"content-length"]
            elif message["type"] == "http.response.body":
                message["body"] = re.sub(rb',"age_s":[^}]+', b"", message["body"])
            await send(message)

        await app(scope, receive, send_ageless)

    return older


@contextmanager
def in_thread(run: Callable[[], Any]) -> Iterator[None]:
    """Run beside a block that sees to its end, and bring up what it raised."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run)
        yield
        running.result(20.0)


def await_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10.0
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    # The API's streams tell all that there is to tell, only sooner than they need to in earnest.
    monkeypatch.setattr("pipelines.api.work.SIGN_S", 0.5)
    monkeypatch.setattr("pipelines.api.routes.status.LOOK_S", 0.1)
    made = Installation(tmp_path)
    yield made
    made.records.close()


def test_nothing_is_released_during_the_block_and_every_replica_is_asked_after_it(place: Installation) -> None:
    with place.api(), place.executor():
        with place.hold().unchanged("up", place.told.append):
            assert place.holders() == {"c-1"}
        assert place.holders() == {None}
    assert place.changes() == [("up", RunState.DONE)]
    assert place.told == ["every replica serves the digest that it served before"]


def test_another_digest_after_the_block_is_found(place: Installation) -> None:
    with place.api(), place.executor():
        with pytest.raises(DeployFailed) as refused, place.hold(IN_VAIN).unchanged("up", place.told.append):
            place.serve("2")
        assert place.holders() == {None}
    assert refused.value.message == f"production served {bundle_digest('1')}, now {bundle_digest('2')}"


def test_another_digest_of_a_further_model_is_found_too(place: Installation) -> None:
    add(place.records, FurtherModel("second-model", "alice", now()))
    place.serve("3", "second-model")
    with place.api(), place.executor():
        with place.hold().unchanged("up", place.told.append):
            assert len(place.holders()) == 1
        with pytest.raises(DeployFailed) as refused, place.hold(IN_VAIN).unchanged("up", place.told.append):
            place.serve("4", "second-model")
        assert place.holders() == {None}
    told = f"second-model in production served {bundle_digest('3')}, now {bundle_digest('4')}"
    assert refused.value.message == told


def test_it_says_what_it_waits_for_and_goes_on_when_that_has_ended(place: Installation) -> None:
    leases.acquire(place.services, MODEL, PRODUCTION, "p-12")

    def report_progress(line: str) -> None:
        place.told.append(line)
        leases.give_back(place.services, "p-12")

    with place.api(), place.executor(), place.hold().held("down", report_progress) as holding:
        assert holding
        assert place.holders() == {"c-1"}
    assert place.told == ["waiting for p-12, which changes production"]


def test_work_that_does_not_end_in_time_is_a_refusal_that_leaves_nothing_behind(place: Installation) -> None:
    leases.acquire(place.services, MODEL, PRODUCTION, "p-12")
    with place.api(), place.executor():
        hold = place.hold(IN_VAIN).held("up", place.told.append)
        with pytest.raises(LeaseHeld, match="for p-12, which changes production") as refused, hold:
            pytest.fail("the block was run")
        assert (refused.value.exit_code, bool(refused.value.next)) == (3, True)
        assert place.changes() == [("up", RunState.DONE)]
    assert place.holders() == {"p-12"}


def test_without_an_api_it_goes_on_and_says_so_in_one_line(place: Installation) -> None:
    with place.hold().unchanged("up", place.told.append):
        pass
    (line,) = place.told
    assert "nobody can be asked: the API at" in line


def test_an_api_that_does_not_know_the_request_yet_can_be_replaced(place: Installation) -> None:
    with place.api(lacking="maintenance"), place.hold().unchanged("up", place.told.append):
        pass
    (line,) = place.told
    assert "nobody can be asked: " in line


def test_an_installation_of_another_model_is_neither_held_nor_changed(place: Installation) -> None:
    (place.settings.project / "model.yaml").write_text("name: other-model\n")
    changing, entered = place.hold().unchanged("up", place.told.append), []
    with place.api(), place.executor(), pytest.raises(UnknownModel, match="'other-model'"), changing:
        entered.append("up")
    assert (entered, place.changes()) == ([], [])


def test_without_an_executor_it_goes_on_and_says_so(place: Installation) -> None:
    place.fall_silent()
    with place.api(), place.hold(IN_VAIN).unchanged("up", place.told.append):
        pass
    assert "the executor was last seen at 2026-01-01" in place.told[0]
    assert "c-1 still holds the environments" in place.told[1]


def test_no_step_of_an_operators_clock_makes_a_living_executor_silent(
    place: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.api.client.datetime", Ahead)
    with place.api(), place.executor():
        with place.hold().held("up", place.told.append) as holding:
            assert holding
        place.hold().await_executor()
    assert place.told == []


def test_an_api_of_before_that_tells_no_age_is_understood(place: Installation) -> None:
    with place.api(tells_age=False):
        with place.executor(), place.hold().held("up", place.told.append) as holding:
            assert holding
        place.fall_silent()
        with place.hold(IN_VAIN).held("up", place.told.append) as holding:
            assert not holding
    assert place.told[0].startswith("nothing is held: the executor was last seen at 2026-01-01")


def test_with_an_api_of_before_no_step_of_a_clock_is_enough_to_leave_an_executor_unasked(
    place: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.api.client.datetime", Ahead)
    place.work = ["p-12"]
    hold = place.hold(IN_VAIN).held("up", place.told.append)
    with place.api(tells_age=False), place.executor(), pytest.raises(LeaseHeld, match="goes on with p-12"), hold:
        pytest.fail("the block was run")


def test_an_executor_that_dies_while_it_is_waited_for_holds_nobody_up(place: Installation) -> None:
    leases.acquire(place.services, MODEL, PRODUCTION, "p-12")
    rounds = place.executor()

    def report_progress(line: str) -> None:
        place.told.append(line)
        if line.startswith("waiting"):
            rounds.__exit__(None, None, None)
            place.fall_silent()

    rounds.__enter__()
    with place.api(), place.hold(IN_VAIN).held("up", report_progress) as holding:
        assert not holding
    assert place.told[0] == "waiting for p-12, which changes production"
    assert place.told[1].startswith("nothing is held: the executor was last seen at 2026-01-01")


def test_a_stream_that_the_api_ends_is_taken_up_again(place: Installation) -> None:
    leases.acquire(place.services, MODEL, PRODUCTION, "p-12")

    def report_progress(line: str) -> None:
        place.told.append(line)
        place.feed.end()
        leases.give_back(place.services, "p-12")

    with place.api(), place.executor(), place.hold().held("up", report_progress) as holding:
        assert holding
    assert place.told == ["waiting for p-12, which changes production"]


def test_an_api_that_streams_no_status_yet_is_said_to_be_what_keeps_from_comparing(place: Installation) -> None:
    with place.api(lacking="status/events"), place.executor():
        with place.hold(IN_VAIN).held("up", place.told.append), pytest.raises(Undecided) as refused:
            place.hold(IN_VAIN).await_executor()
        assert "looks at no replica" not in refused.value.message


def test_the_api_of_another_installation_is_not_held(place: Installation) -> None:
    (place.settings.project / "model.yaml").write_text("name: other-model\n")
    with place.api(), place.executor(), pytest.raises(UnknownModel, match="'other-model'"):
        place.hold().await_executor()


def test_the_hold_of_one_that_was_killed_is_taken_over(place: Installation) -> None:
    with place.api(), place.executor():
        # It gives back when it is forgotten, at the test's end, when nobody answers any more.
        killed = place.hold(IN_VAIN).held("up", place.told.append)
        killed.__enter__()
        with place.hold().held("up", place.told.append):
            assert place.holders() == {"c-2"}
        assert place.holders() == {None}
    assert place.changes() == [("up", RunState.DONE), ("up", RunState.DONE)]


def test_what_down_holds_when_all_stops_the_next_up_gives_back(place: Installation) -> None:
    with place.api(), place.executor():
        down = place.hold().held("down", place.told.append)
        down.__enter__()
    down.__exit__(None, None, None)
    assert place.holders() == {"c-1"}

    with place.hold().unchanged("up", place.told.append):
        api, rounds = place.api(), place.executor()
        api.__enter__()
        rounds.__enter__()
    try:
        assert place.holders() == {None}
    finally:
        rounds.__exit__(None, None, None)
        api.__exit__(None, None, None)


def test_an_executor_that_shows_itself_is_awaited(place: Installation) -> None:
    with place.api(), place.executor():
        place.hold().await_executor()


def test_the_last_sign_of_an_executor_that_is_gone_is_not_enough(place: Installation) -> None:
    with place.api(), pytest.raises(Undecided, match="has not shown itself again") as refused:
        place.hold(IN_VAIN).await_executor()
    assert "slipway logs" in refused.value.next


def test_an_executor_that_never_shows_itself_is_told(place: Installation) -> None:
    place.fall_silent()
    with place.api(), pytest.raises(Undecided, match="the executor was last seen at 2026-01-01"):
        place.hold(IN_VAIN).await_executor()


@pytest.mark.parametrize("rotations", [1, 2])
def test_tokens_that_a_killed_rotation_left_are_no_hindrance(place: Installation, rotations: int) -> None:
    home = place.settings.home
    with place.api(), place.executor():
        for _ in range(rotations):
            SecretStore(home / "secrets.json", place.settings.tokens_file).rotate("tokens")
        # A process that never knew the former ones.
        with place.hold().held("up", place.told.append) as holding:
            assert holding
    assert place.told == []


@pytest.mark.parametrize("work", ["p-12", "e-3"])
def test_without_an_api_an_executor_at_work_is_left_alone(place: Installation, work: str) -> None:
    place.work = [work]
    hold = place.hold().held("up", place.told.append)
    with pytest.raises(LeaseHeld, match=f"does not answer.*goes on with {work}") as refused, hold:
        pytest.fail("the block was run")
    assert '"make up" again' in refused.value.next


def test_without_tokens_that_the_api_knows_an_executor_at_work_is_left_alone(place: Installation) -> None:
    place.work = ["p-12"]
    with place.api(), place.executor():
        place.settings.tokens_file.write_text('{"alice": "unknown"}')
        hold = place.hold().held("up", place.told.append)
        with pytest.raises(LeaseHeld, match="p-12"), hold:
            pytest.fail("the block was run")


@pytest.mark.parametrize("why", [TargetUnavailable("none runs"), Undecided("it has no database")])
def test_an_executor_that_can_not_be_asked_either_is_mended(place: Installation, why: SlipwayError) -> None:
    place.work = why
    with place.hold().held("up", place.told.append) as holding:
        assert not holding
    assert "nobody can be asked: the API at" in place.told[0]


class OneAfterTheOther:
    """An API whose executor looks at its models ever more slowly; `clock` says how late it is."""

    def __init__(self) -> None:
        self.clock = 0.0

    def opened(self, token: str, *, model: str = "") -> "OneAfterTheOther":
        return self

    def get(self, path: str) -> dict[str, Any]:
        return {}

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"id": "c-1"}

    def follow(self, path: str) -> Iterator[dict[str, Any]]:
        while True:
            self.clock += 4.0
            look = {"at": str(self.clock), "replicas": [{"digest": bundle_digest("1")}]}
            yield {"state": "running", "models": [MODEL, "second", "third"], "observed": {"production": look}}


def test_each_of_several_models_has_the_time_of_a_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tokens(tmp_path / "tokens.json")
    api, told = OneAfterTheOther(), list[str]()
    clock = SimpleNamespace(monotonic=lambda: api.clock, sleep=lambda seconds: None)
    monkeypatch.setattr("pipelines.adapters.containers.maintenance_hold.time", clock)
    hold = MaintenanceHold(api.opened, lambda status: "", tmp_path, tmp_path / "tokens.json", work=list)
    with hold.unchanged("up", told.append):
        pass
    assert told == ["every replica serves the digest that it served before"]
