"""Supervisors, replicas and clients as real processes: swaps under load, kills, restarts and refusals."""

import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.load.load_client import LoadClient, LoadResult, under_load
from pipelines.adapters.local.supervisor.handover import find_sockets
from pipelines.adapters.local.supervisor.home import ProcessRecord
from pipelines.adapters.local.supervisor.wire import WIRE_VERSION, Command
from pipelines.domain.release import Endpoint, Environment, Phase, Release, Slot, SlotState
from pipelines.errors import TargetUnavailable, UsageError
from tests.support.world.bundles import make_bundle, valid_row
from tests.support.world.supervisors import SupervisorProcess, eventually

SEEDS = (1, 2)
Supervisors = list[SupervisorProcess]


@pytest.fixture
def supervisors() -> Iterator[Supervisors]:
    """Every supervisor that a test puts in here is cleaned up."""
    started: Supervisors = []
    yield started
    for supervisor in started:
        supervisor.clean_up()


@pytest.fixture
def digests(tmp_path: Path) -> dict[str, Path]:
    return {digest: path for path, digest in (make_bundle(tmp_path / "bundles", seed=seed) for seed in SEEDS)}


def supervisor_of(
    supervisors: Supervisors,
    home: Path,
    digests: dict[str, Path],
    *,
    replicas: int = 2,
    options: tuple[str, ...] = (),
) -> SupervisorProcess:
    supervisor = SupervisorProcess(home, replicas=replicas, options=options)
    supervisor.bundles.update(digests)
    supervisors.append(supervisor)
    supervisor.start()
    return supervisor


def release(number: int, digests: dict[str, Path]) -> Release:
    digest = list(digests)[number % len(digests)]
    return Release(f"r{number}", "toy-model", Environment.STAGING, str(number), digest)


def no_failures(load: LoadResult) -> None:
    assert load.sent > 50
    assert len(load.answers) == load.sent, f"{len(load.failures)} of {load.sent} failed: {load.failures[:5]}"


def test_five_swaps_under_load_lose_no_request(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests)
    supervisor.serve(release(0, digests))
    with under_load(LoadClient(supervisor.url, valid_row())) as load:
        for number in range(1, 6):
            supervisor.serve(release(number, digests))
    no_failures(load)
    assert load.versions == {"0", "1", "2", "3", "4", "5"}


def test_a_killed_master_is_replaced_and_its_worker_does_not_stay(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests)
    served = release(0, digests)
    before = supervisor.serve(served)
    lost = supervisor.process_of("live-1")
    with under_load(LoadClient(supervisor.url, valid_row(), kept_per_s=60, new_per_s=20)) as load:
        os.kill(lost["pid"], signal.SIGKILL)
        after = supervisor.until_live(lambda state: state.serves(served) and state.replicas[0].restarts == 1)
    assert after.replicas[1] == before.replicas[1]
    no_failures(load)
    eventually(lambda: Path(f"/proc/{lost['worker']}").exists(), lambda exists: not exists)


def test_a_killed_worker_is_replaced_and_counted_while_the_other_replica_serves(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests)
    served = release(0, digests)
    before = supervisor.serve(served)
    os.kill(supervisor.process_of("live-2")["worker"], signal.SIGKILL)
    with under_load(LoadClient(supervisor.url, valid_row(), kept_per_s=60, new_per_s=20)) as load:
        after = supervisor.until_live(lambda state: state.serves(served) and state.replicas[1].restarts >= 1)
        eventually(lambda: load.sent, lambda sent: sent > 60)
    assert after.replicas[0] == before.replicas[0]
    assert after.replicas[1].pid != before.replicas[1].pid
    no_failures(load)


def test_a_stuck_replica_is_replaced(supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests, options=("--silence-s", "3"))
    served = release(0, digests)
    stuck = supervisor.serve(served).replicas[0].pid
    assert stuck
    os.kill(stuck, signal.SIGSTOP)
    after = supervisor.until_live(lambda state: state.serves(served) and state.replicas[0].pid != stuck)
    assert [replica.restarts for replica in after.replicas] == [1, 0]


def test_a_supervisor_that_was_killed_serves_the_same_release_again(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests)
    served, tried = release(0, digests), release(1, digests)
    before = {replica.pid for replica in supervisor.serve(served, epoch=4).replicas}
    supervisor.target.start(tried, Slot.TRIAL, epoch=4)
    url = supervisor.target.observe(supervisor.endpoint, Slot.TRIAL).url
    supervisor.kill()
    with pytest.raises(TargetUnavailable, match="supervisor of toy-model in staging does not answer") as refused:
        supervisor.live()
    assert refused.value.next == 'run "make up"'
    supervisor.start()
    after = supervisor.until_live(lambda state: state.serves(served))
    trial = eventually(
        lambda: supervisor.target.observe(supervisor.endpoint, Slot.TRIAL), lambda state: state.serves(tried)
    )
    assert trial.url == url
    assert before.isdisjoint({replica.pid for replica in after.replicas})
    eventually(lambda: [pid for pid in before if Path(f"/proc/{pid}").exists()], lambda left: not left)
    assert supervisor.record()["epoch"] == 4


def test_a_supervisor_is_replaced_under_load_without_a_lost_request(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests)
    served = release(0, digests)
    before = {replica.pid for replica in supervisor.serve(served, epoch=4).replicas}
    with under_load(LoadClient(supervisor.url, valid_row())) as load:
        for _ in range(3):
            assert supervisor.succeed("--replace") == 0
    no_failures(load)
    state = supervisor.until_live(lambda state: state.serves(served))
    assert before.isdisjoint({replica.pid for replica in state.replicas})
    assert supervisor.record()["epoch"] == 4
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)


def test_replicas_of_a_killed_supervisor_serve_until_those_of_its_successor_do(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests)
    served = release(0, digests)
    supervisor.serve(served)
    with ExitStack() as held:
        found = [held.enter_context(each) for each in find_sockets([ProcessRecord(**supervisor.process_of("live-1"))])]
    if not found:
        pytest.skip("this system lets nobody take a socket from a process that is not its child (Yama)")
    with under_load(LoadClient(supervisor.url, valid_row())) as load:
        supervisor.kill()
        assert supervisor.succeed() == -signal.SIGKILL
    no_failures(load)
    supervisor.until_live(lambda state: state.serves(served))


def test_a_replica_that_the_record_of_a_killed_supervisor_does_not_name_is_ended_too(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests)
    supervisor.serve(release(0, digests))
    supervisor.kill()
    unnamed = supervisor.forget("live-2")
    supervisor.succeed()
    assert not Path(f"/proc/{unnamed['pid']}").exists() and not Path(f"/proc/{unnamed['worker']}").exists()


def test_a_successor_whose_replicas_never_come_up_leaves_those_before_it_serving(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests, replicas=1)
    supervisor.serve(release(0, digests))
    bundle = supervisor.bundles[release(0, digests).bundle_digest] / "bundle.json"
    whole = bundle.read_bytes()
    with under_load(LoadClient(supervisor.url, valid_row(), kept_per_s=60, new_per_s=20)) as load:
        bundle.write_bytes(b"{}")
        supervisor.begin("--replace")
        eventually(supervisor.stderr_path.read_text, lambda text: "what a former supervisor left serves on" in text)
        bundle.write_bytes(whole)
        eventually(supervisor.record, lambda record: not record["former"])
    no_failures(load)


def test_a_release_has_not_settled_while_replicas_of_a_former_supervisor_answer(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests, replicas=1)
    before = supervisor.serve(release(0, digests)).replicas[0]
    (supervisor.bundles[release(0, digests).bundle_digest] / "bundle.json").write_bytes(b"{}")
    supervisor.begin("--replace")
    eventually(supervisor.stderr_path.read_text, lambda text: "what a former supervisor left serves on" in text)
    state = supervisor.live()
    assert state.phase is Phase.STARTING and before in state.replicas
    with under_load(LoadClient(supervisor.url, valid_row(), kept_per_s=60, new_per_s=20)) as load:
        state = supervisor.serve(release(1, digests))
        assert not Path(f"/proc/{before.pid}").exists()
    no_failures(load)
    assert [replica.version for replica in state.replicas] == ["1"]


def test_who_can_not_be_asked_serves_and_is_asked_as_soon_as_the_disk_allows_it(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests, replicas=1)
    served = release(0, digests)
    supervisor.serve(served)
    supervisor.stop()
    control = Path(supervisor.record()["socket"])
    # As on a full disk, on which no socket can be made.
    control.mkdir()
    supervisor.begin()
    eventually(lambda: answers(supervisor.url), bool)
    control.rmdir()
    eventually(control.is_socket, bool)
    supervisor.until_live(lambda state: state.serves(served))


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def test_a_supervisor_whose_successor_has_given_up_goes_on(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests, replicas=1)
    served, pid = release(0, digests), supervisor.record()["pid"]
    before = supervisor.serve(served)

    def say(successor: socket.socket, command: Command) -> None:
        successor.sendall(json.dumps({"command": command}).encode() + b"\n")

    def take_sockets(successor: socket.socket) -> None:
        successor.connect(supervisor.record()["socket"])
        say(successor, Command.HAND_OVER)
        for fd in socket.recv_fds(successor, 4096, 8)[1]:
            os.close(fd)

    with socket.socket(socket.AF_UNIX) as dies_with_the_sockets:
        take_sockets(dies_with_the_sockets)
    # A frozen one reads only when it wakes what was said to it.
    with socket.socket(socket.AF_UNIX) as gives_up, socket.socket(socket.AF_UNIX) as never_gets_any:
        take_sockets(gives_up)
        os.kill(pid, signal.SIGSTOP)
        say(gives_up, Command.LEAVE)
        never_gets_any.connect(supervisor.record()["socket"])
        say(never_gets_any, Command.HAND_OVER)
    os.kill(pid, signal.SIGCONT)
    assert supervisor.live() == before
    assert supervisor.record()["pid"] == pid
    os.kill(before.replicas[0].pid or 0, signal.SIGKILL)
    supervisor.until_live(lambda state: state.serves(served) and state.replicas[0].restarts == 1)


def test_who_has_not_got_the_sockets_can_not_have_a_supervisor_leave(supervisors: Supervisors, tmp_path: Path) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", {})
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(supervisor.record()["socket"])
        stranger.sendall(json.dumps({"command": Command.LEAVE}).encode() + b"\n")
        assert json.loads(stranger.recv(4096))["error"]["code"] == "usage"
    assert supervisor.live().phase is Phase.EMPTY


def test_a_successor_that_is_refused_says_why_and_leaves_the_one_before_in_its_place(
    supervisors: Supervisors, tmp_path: Path
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", {})
    record = tmp_path / "home" / "run" / "supervisor-staging-toy-model.json"
    # As on a full disk.
    partial = record.with_name(f"{record.name}.partial")
    partial.mkdir()
    refused = supervisor.run_another("--replace")
    partial.rmdir()
    assert refused.returncode == 5
    assert "the supervisor cannot record a change" in refused.stderr
    assert supervisor.live().phase is Phase.EMPTY


def test_the_record_of_a_newer_slipway_is_refused_with_both_versions(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests, replicas=1)
    supervisor.stop()
    path = tmp_path / "home" / "run" / "supervisor-staging-toy-model.json"
    path.write_text(json.dumps({**supervisor.record(), "wire": WIRE_VERSION + 1}))
    refused = supervisor.run_another()
    assert refused.returncode == 2
    assert f"speaks version {WIRE_VERSION + 1}, this Slipway speaks version {WIRE_VERSION}" in refused.stderr
    with pytest.raises(UsageError, match=f"speaks version {WIRE_VERSION + 1}, .* version {WIRE_VERSION}"):
        supervisor.live()


def test_an_earlier_supervisor_is_not_spoken_to(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests, replicas=1)
    path = tmp_path / "home" / "run" / "supervisor-staging-toy-model.json"
    path.write_text(json.dumps({key: value for key, value in supervisor.record().items() if key != "wire"}))
    with pytest.raises(TargetUnavailable, match="an earlier Slipway's and speaks version 1") as refused:
        supervisor.live()
    assert refused.value.next == 'run "make up"'


def test_a_supervisor_that_was_told_to_stop_drains_all_and_keeps_its_record(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests)
    served = release(0, digests)
    before = supervisor.serve(served)
    assert supervisor.stop() == 0
    assert not any(Path(f"/proc/{replica.pid}").exists() for replica in before.replicas)
    assert supervisor.record()["processes"] == []
    assert not list((tmp_path / "home" / "run").glob("*.sock"))
    supervisor.start()
    supervisor.until_live(lambda state: state.serves(served))


def test_a_release_that_hangs_while_starting_leaves_the_old_one(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests, replicas=1, options=("--start-deadline-s", "4"))
    old, hanging = release(0, digests), release(1, digests)
    serving = supervisor.serve(old).replicas
    supervisor.target.start(hanging, Slot.LIVE, epoch=1)
    newest = eventually(
        lambda: [process["pid"] for process in supervisor.record()["processes"] if process["worker"] is None],
        bool,
    )
    os.kill(newest[0], signal.SIGSTOP)
    state = supervisor.until_live(lambda state: state.phase is Phase.FAILED, within_s=60)
    assert "live-1 was not ready within 4 s" in str(state.failure)
    assert (state.release, state.replicas) == (old, serving)
    supervisor.target.restore(supervisor.endpoint, old, epoch=1)
    supervisor.until_live(lambda state: state.serves(old))


def test_a_release_that_answers_as_another_version_is_not_served_until_it_is_repaired_and_asked_for_again(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests, replicas=1)
    old, bad = release(0, digests), release(1, digests)
    supervisor.serve(old)
    supervisor.bundles[bad.bundle_digest] = supervisor.bundles[old.bundle_digest]
    supervisor.target.start(bad, Slot.LIVE, epoch=1)
    state = supervisor.until_live(lambda state: state.phase is Phase.FAILED)
    assert state.release == old
    assert state.last_log
    supervisor.bundles.update(digests)
    assert supervisor.serve(bad).failure is None


def test_the_release_asked_for_last_wins(supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests)
    supervisor.serve(release(0, digests))
    with under_load(LoadClient(supervisor.url, valid_row(), kept_per_s=60, new_per_s=20)) as load:
        for number in (1, 2, 3, 4):
            supervisor.target.start(release(number, digests), Slot.LIVE, epoch=1)
        supervisor.until_live(lambda state: state.serves(release(4, digests)))
    no_failures(load)
    names = [process["name"] for process in supervisor.record()["processes"]]
    assert names.count("live-1") == names.count("live-2") == 1


def test_a_taken_port_is_refused_with_its_holder_and_the_setting(supervisors: Supervisors, tmp_path: Path) -> None:
    supervisor = SupervisorProcess(tmp_path / "home")
    with socket.create_server(("127.0.0.1", supervisor.port)):
        refused = supervisor.run_another()
    assert refused.returncode == 2
    assert f"port {supervisor.port} on 127.0.0.1 is taken by pid {os.getpid()}" in refused.stderr
    assert "set SLIPWAY_PORT_STAGING" in refused.stderr


def test_a_second_supervisor_is_refused_with_the_pid_of_the_first(supervisors: Supervisors, tmp_path: Path) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", {})
    refused = supervisor.run_another()
    assert refused.returncode == 2
    assert f"(pid {supervisor.record()['pid']})" in refused.stderr
    assert supervisor.live().phase is Phase.EMPTY


def test_a_home_with_a_long_path_works_and_its_socket_is_private(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / ("long-" * 25), digests, replicas=1)
    supervisor.serve(release(0, digests))
    path = Path(supervisor.record()["socket"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.is_relative_to(tmp_path)


def test_an_environment_without_a_release_is_alive(supervisors: Supervisors, tmp_path: Path) -> None:
    def one_alive(state: SlotState) -> bool:
        return len(state.replicas) == 1 and state.replicas[0].pid is not None

    supervisor = supervisor_of(supervisors, tmp_path / "home", {})
    state = supervisor.until_live(one_alive)
    assert (state.phase, state.replicas[0].ready, state.url) == (Phase.EMPTY, False, supervisor.url)


def test_two_models_of_one_environment_are_served_apart(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    first = supervisor_of(supervisors, tmp_path / "home", digests, replicas=1)
    other = SupervisorProcess(tmp_path / "home", model="other-model")
    path, digest = make_bundle(tmp_path / "bundles", model="other-model")
    other.bundles[digest] = path
    supervisors.append(other)
    other.start()
    served = first.serve(release(0, digests), epoch=7)
    theirs = Release("r9", "other-model", Environment.STAGING, "1", digest)
    assert other.serve(theirs, epoch=1).release == theirs
    assert first.live() == served
    with pytest.raises(TargetUnavailable, match="supervisor of third-model in staging does not answer"):
        first.target.observe(Endpoint("third-model", Environment.STAGING), Slot.LIVE)


def test_the_record_of_before_models_had_their_own_is_taken_over(
    supervisors: Supervisors, tmp_path: Path, digests: dict[str, Path]
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests, replicas=1)
    served = release(0, digests)
    supervisor.serve(served, epoch=3)
    supervisor.stop()
    record = tmp_path / "home" / "run" / "supervisor-staging-toy-model.json"
    record.rename(record.with_name("supervisor-staging.json"))
    supervisor.start()
    supervisor.until_live(lambda state: state.serves(served))
    assert supervisor.record()["epoch"] == 3


def test_sampled_requests_are_pulled_on_private_sockets_and_nowhere_else(
    supervisors: Supervisors, digests: dict[str, Path], tmp_path: Path
) -> None:
    supervisor = supervisor_of(supervisors, tmp_path / "home", digests)
    wanted = release(1, digests)
    supervisor.serve(wanted)
    question = json.dumps({"read": {}, "plan": {"rate": 1, "rows": 100}}).encode()

    def pull() -> list[Any]:
        answers = supervisor.target.pull_samples(supervisor.endpoint, Slot.LIVE, question)
        return [json.loads(each) for each in answers]

    assert len(pull()) == 2

    with httpx.Client(base_url=supervisor.url, trust_env=False) as client:
        for number in range(20):
            assert client.post("/predict", json=valid_row(), headers={"x-request-id": f"r{number}"}).status_code == 200
        public = client.post("/requests/sampled", content=question, headers={"content-type": "application/json"})
    told = pull()

    assert public.status_code == 404
    assert {entry[2] for each in told for entry in each["entries"]} == {f"r{number}" for number in range(20)}
    assert sum(each["seen"] for each in told) == 20
    assert {(each["digest"], each["version"]) for each in told} == {(wanted.bundle_digest, "1")}
