"""What `up`, `down` and `destroy` do with processes that the home records, and are not today's own."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pipelines.adapters.local import installation as installation_module
from pipelines.adapters.local import parts as parts_module
from pipelines.adapters.local import processes as processes_module
from pipelines.adapters.local.installation import LocalInstallation
from pipelines.adapters.local.parts import Part
from pipelines.adapters.local.processes import Processes, kill
from pipelines.adapters.local.supervisor.handover import find_sockets
from pipelines.adapters.local.supervisor.home import ProcessRecord, Record, SlotRecord, record_path
from pipelines.adapters.local.supervisor.identity import MARK, birth, mark
from pipelines.adapters.local.supervisor.wire import Deployment
from pipelines.adapters.local.told_api import ToldApi
from pipelines.domain.release import Environment, Phase, Release, Slot
from pipelines.errors import OtherModel, Undecided, UsageError
from pipelines.settings.installation import InstallationRecord
from pipelines.settings.settings import Settings
from pipelines.settings.tokens import make_tokens
from tests.support.servers.servers import free_port
from tests.support.world.supervisors import eventually

LISTENER = (
    "import socket, sys, time; server = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
    "print('listens', flush=True); time.sleep(60)"
)


class Nothing(LocalInstallation):
    """An installation that has no parts of its own."""

    def parts(self) -> list[Part]:
        """Return none."""
        return []


class StagingOnly(LocalInstallation):
    """An installation whose only part is staging's supervisor."""

    def parts(self) -> list[Part]:
        """Return that one."""
        return [part for part in super().parts() if part.port_setting == "STAGING"]


class Given(LocalInstallation):
    """An installation of parts that a test makes."""

    given: tuple[Part, ...] = ()

    @property
    def home(self) -> Path:
        """Return where it keeps its state."""
        return self._settings.home

    def parts(self) -> list[Part]:
        """Return those."""
        return list(self.given)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environ({"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_PORT_STAGING": str(free_port())})


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Callable[..., list["subprocess.Popen[bytes]"]]]:
    """Start processes that the home records by these names."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*names: str) -> list["subprocess.Popen[bytes]"]:
        started.extend(subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in names)
        (tmp_path / "run").mkdir(exist_ok=True)
        record = {
            name: (process.pid, psutil.Process(process.pid).create_time())
            for name, process in zip(names, started, strict=True)
        }
        (tmp_path / "run" / "processes.json").write_text(json.dumps(record))
        return started

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize("verb", ["up", "down"])
def test_what_an_earlier_slipway_started_is_ended(
    recorded: Callable[..., list["subprocess.Popen[bytes]"]], settings: Settings, verb: str
) -> None:
    (former,) = recorded("supervisor-staging")
    told: list[str] = []
    installation = Nothing(settings, {}, lambda pid: True, lambda: None)
    getattr(installation, verb)(told.append)
    assert not psutil.pid_exists(former.pid)
    assert "stopping supervisor-staging" in told[0]
    assert installation.running() == {}


@pytest.mark.parametrize("verb", ["up", "down"])
@pytest.mark.parametrize("environment", Environment)
def test_what_serves_another_model_is_not_ended_even_without_a_record_of_the_model(
    recorded: Callable[..., list["subprocess.Popen[bytes]"]], settings: Settings, verb: str, environment: Environment
) -> None:
    processes = recorded("api", "executor", f"supervisor-{environment}-other-model")
    installation = Nothing(settings, {}, lambda pid: True, lambda: None)
    with pytest.raises(OtherModel, match=r"of model 'other-model', and .* names 'churn-model'"):
        getattr(installation, verb)(lambda line: None)
    assert [process.poll() for process in processes] == [None, None, None]


def test_destroy_ends_it_whatever_its_model(
    recorded: Callable[..., list["subprocess.Popen[bytes]"]], settings: Settings
) -> None:
    recorded("api", "supervisor-staging-other-model")
    installation = Nothing(settings, {}, lambda pid: True, lambda: None)
    installation.destroy(lambda line: None)
    assert installation.running() == {}


def test_an_api_that_knows_another_id_or_other_tokens_is_started_anew(
    recorded: Callable[..., list["subprocess.Popen[bytes]"]], settings: Settings
) -> None:
    InstallationRecord(id="ours", settings={}).write(settings.home)
    make_tokens(settings.tokens_file)
    (api,) = recorded("api")
    installation = Nothing(settings, {}, lambda pid: True, lambda: None)
    ToldApi(settings).keep_told()
    assert installation.known_id() == "ours"
    installation.up(lambda line: None)
    assert api.poll() is None
    settings.tokens_file.unlink()
    make_tokens(settings.tokens_file)
    installation.up(lambda line: None)
    assert not psutil.pid_exists(api.pid)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"installation": 1}'])
def test_what_the_api_was_told_is_unknown_when_it_can_not_be_read(settings: Settings, text: str) -> None:
    (settings.home / "run").mkdir()
    (settings.home / "run" / "api-told.json").write_text(text)
    assert ToldApi(settings).known_id() is None
    assert not ToldApi(settings).is_told()


def test_replicas_of_a_crashed_supervisor_of_an_earlier_slipway_do_not_take_its_port(settings: Settings) -> None:
    command = [sys.executable, "-c", LISTENER, str(settings.staging_port)]
    installation = StagingOnly(settings, {}, lambda pid: True, lambda: None)
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as replica:
        assert replica.stdout and replica.stdout.readline()
        # Who ends it is not its parent, and waits for as long as there is a zombie.
        threading.Thread(target=replica.wait, daemon=True).start()
        left = ProcessRecord("live-0", replica.pid, birth(replica.pid), None, None, str(settings.home / "none.sock"))
        (settings.home / "run").mkdir()
        (settings.home / "run" / "supervisor-staging.json").write_text(json.dumps(Record(processes=[left]).as_dict()))
        try:
            installation.up(lambda line: None)
            assert replica.wait(timeout=10) != 0
            with socket.create_connection(("127.0.0.1", settings.staging_port), timeout=5):
                assert list(installation.running()) == ["supervisor-staging-churn-model"]
        finally:
            installation.down(lambda line: None)
            replica.kill()


def test_a_successor_whose_replicas_never_come_up_is_not_ended_nor_what_serves_meanwhile(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation_module, "READY_S", 4.0)
    monkeypatch.setattr(installation_module, "SILENT_S", 4.0)
    installation = StagingOnly(settings, {}, lambda pid: True, lambda: None)
    (own,) = installation.parts()
    broken = Deployment(Release("r-1", "churn-model", Environment.STAGING, "1", "sha256:b"), settings.home / "none")
    slots = {Slot.LIVE: SlotRecord(serving=broken, wanted=broken, phase=Phase.SETTLED)}
    command = [sys.executable, "-c", LISTENER, str(settings.staging_port)]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as replica:
        assert replica.stdout and replica.stdout.readline()
        threading.Thread(target=replica.wait, daemon=True).start()
        left = ProcessRecord("live-0", replica.pid, birth(replica.pid), None, None, str(settings.home / "none.sock"))
        taken = find_sockets([left])
        for each in taken:
            each.close()
        if not taken:
            pytest.skip("this system lets nobody take a socket from a process that is not its child (Yama)")
        (settings.home / "run").mkdir()
        own.records[0].write_text(json.dumps(Record(slots=slots, former=[left]).as_dict()))
        try:
            # Nobody's port is taken by what a supervisor of before has left.
            with pytest.raises(Undecided, match=f"{own.name} is not ready after"):
                installation.up(lambda line: None)
            successor = installation.running()[own.name].pid
            told: list[str] = []
            with pytest.raises(Undecided, match=f"{own.name} is not ready after"):
                installation.up(told.append)
            assert not any("does not answer" in line for line in told)
            assert installation.running()[own.name].pid == successor
            assert replica.poll() is None
        finally:
            installation.down(lambda line: None)
            replica.kill()


def test_what_a_former_supervisor_left_counts_until_its_successor_has_ended_it(settings: Settings) -> None:
    (own,) = StagingOnly(settings, {}, lambda pid: True, lambda: None).parts()
    (settings.home / "run").mkdir()
    left = ProcessRecord("live-0", os.getpid(), birth(os.getpid()), None, None, "none.sock")
    for record, holds in ((Record(former=[left]), True), (Record(processes=[left]), True), (Record(), False)):
        own.records[0].write_text(json.dumps(record.as_dict()))
        assert own.has_left_replicas is holds


def test_a_supervisor_that_listens_and_says_nothing_is_frozen(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts_module, "_OBEY_S", 0.1)
    (own,) = StagingOnly(settings, {}, lambda pid: True, lambda: None).parts()
    (settings.home / "run").mkdir()
    control = str(settings.home / "run" / "control.sock")
    own.records[0].write_text(json.dumps(Record(socket=control).as_dict()))
    assert own.answers and not own.answers()
    with socket.socket(socket.AF_UNIX) as frozen:
        frozen.bind(control)
        frozen.listen()
        assert not own.answers()


def part(name: str, ready: Callable[[int], bool], *command: str) -> Part:
    return Part(name, list(command or ("sleep", "60")), None, "", ready, "code")


def after(seconds: float) -> Callable[[int], bool]:
    """Be ready so long after it was asked for the first time."""
    asked: list[float] = []

    def ready(pid: int) -> bool:
        asked.append(time.monotonic())
        return asked[-1] - asked[0] > seconds

    return ready


@pytest.fixture
def given(settings: Settings) -> Iterator[Given]:
    installation = Given(settings, {}, lambda pid: True, lambda: None)
    yield installation
    installation.down(lambda line: None)


def test_a_frozen_part_takes_nothing_of_the_time_of_the_others(given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    given.given = (part("frozen", lambda pid: True), part("slow", lambda pid: True))
    given.up(lambda line: None)
    before = {name: process.pid for name, process in given.running().items()}
    monkeypatch.setattr(installation_module, "SILENT_S", 1.0)
    frozen = before["frozen"]
    given.given = (part("frozen", lambda pid: pid != frozen), part("slow", after(0.3)))
    told: list[str] = []
    given.up(told.append)
    after_up = {name: process.pid for name, process in given.running().items()}
    assert told == ["frozen does not answer: starting it anew", "starting frozen"]
    assert after_up["slow"] == before["slow"] and after_up["frozen"] != frozen
    assert not psutil.pid_exists(frozen)


def test_mlflow_is_given_none_of_the_logins_of_the_shell(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation_module, "upgrade_mlflow", lambda *arguments: None)
    logins = {"AWS_SECRET_ACCESS_KEY": "s3cret", "HOME": "/home/alice", "SLIPWAY_TOKEN": "t0ken"}
    installation = Given(settings, {**logins, "PATH": os.environ["PATH"]}, lambda pid: True, lambda: None)
    shown = tmp_path / "environ"
    command = ("sh", "-c", f"env > {shown}.partial; mv {shown}.partial {shown}; exec sleep 60")
    installation.given = (part("mlflow", lambda pid: shown.exists(), *command),)
    try:
        installation.up(lambda line: None)
        given = dict(line.split("=", 1) for line in shown.read_text().splitlines())
    finally:
        installation.down(lambda line: None)
    assert not {"AWS_SECRET_ACCESS_KEY", "SLIPWAY_TOKEN"} & set(given)
    assert given["HOME"] == str(settings.home)


def test_each_part_has_its_own_time_to_become_ready_and_what_it_says_meanwhile_is_told(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation_module, "READY_S", 2.5)
    monkeypatch.setattr(installation_module, "TELL_S", 0.5)
    talk = ("sh", "-c", "echo makes its tables; exec sleep 60")
    given.given = (part("first", after(1.5)), part("second", after(1.5), *talk))
    told: list[str] = []
    given.up(told.append)
    assert told[:2] == ["starting first", "starting second"]
    assert any(re.fullmatch(r"waiting for second for \d+ s, which says: makes its tables", line) for line in told)


def test_a_part_that_never_becomes_ready_is_told_with_its_own_words(
    given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation_module, "READY_S", 0.3)
    given.given = (part("first", lambda pid: False, "sh", "-c", "echo has no tables; exec sleep 60"),)
    with pytest.raises(Undecided, match=r"first is not ready after 0\.3 s: has no tables") as refused:
        given.up(lambda line: None)
    assert "goes on with what runs" in refused.value.next


def test_who_was_to_be_replaced_stays_on_record_until_its_successor_has_its_place(
    given: Given, settings: Settings
) -> None:
    (own,) = StagingOnly(settings, {}, lambda pid: True, lambda: None).parts()
    given.given = (own,)
    given.up(lambda line: None)
    former = given.running()[own.name].pid
    given.given = (replace(own, code="other", command=["sh", "-c", "echo is refused; exit 2"]),)
    with pytest.raises(UsageError, match=f"{own.name} ended: is refused"):
        given.up(lambda line: None)
    assert given.running()[own.name].pid == former
    # It is known to be of the code before, so the next one replaces it.
    given.given = (replace(own, code="other"),)
    told: list[str] = []
    given.up(told.append)
    assert told[0] == f"{own.name} was started by other code: replacing it"
    assert list(given.running()) == [own.name] and given.running()[own.name].pid != former
    assert os.waitpid(former, 0) == (former, 0)


def test_a_successor_counts_as_soon_as_the_one_before_it_has_left(settings: Settings) -> None:
    processes = Processes(settings.home, settings.logs)
    for replaces in (False, True):
        processes.start("part", ["sleep", "60"], cwd=settings.home, environ={}, replaces=replaces)
    running = processes.running()
    try:
        assert list(running) == ["part", "successor of part"]
        running["part"].kill()
        running["part"].wait()
        assert processes.running() == {"part": running["successor of part"]}
    finally:
        kill(running.values())
        processes.forget()


def test_the_tables_are_upgraded_once_nothing_runs_that_knows_those_of_before(
    recorded: Callable[..., list["subprocess.Popen[bytes]"]], settings: Settings
) -> None:
    before = recorded("api", "executor")
    ran: list[list[bool]] = []
    installation = Given(
        settings, {}, lambda pid: True, lambda: ran.append([psutil.pid_exists(process.pid) for process in before])
    )
    installation.given = tuple(part(name, lambda pid: True) for name in ("api", "executor"))
    try:
        installation.up(lambda line: None)
        assert ran == [[False, False]]
        assert not {process.pid for process in before} & {each.pid for each in installation.running().values()}
    finally:
        installation.down(lambda line: None)


def full(path: Path, body: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(path))


def test_a_process_that_can_not_be_recorded_is_ended(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    processes, before = Processes(settings.home, settings.logs), set(psutil.Process().children())
    monkeypatch.setattr(processes_module, "write_private", full)
    with pytest.raises(OSError, match="No space left"):
        processes.start("part", ["sleep", "60"], cwd=settings.home, environ={}, replaces=False)
    assert set(psutil.Process().children()) == before
    assert processes.running() == {} and processes.latest("part") is None


@pytest.mark.parametrize("content", ["", "[]", '{"api": 1}', '{"api"'])
def test_what_runs_is_found_again_where_the_record_of_it_lost_its_content(given: Given, content: str) -> None:
    # Its child is no part, and neither is one of another home.
    child = ("sh", "-c", "sleep 60 & wait")
    given.given = (part("first", lambda pid: True, *child), part("second", lambda pid: True))
    given.up(lambda line: None)
    before = {name: process.pid for name, process in given.running().items()}
    (given.home / "run" / "processes.json").write_text(content)
    assert {name: process.pid for name, process in given.running().items()} == before
    told: list[str] = []
    given.up(told.append)
    assert told == []
    given.down(lambda line: None)
    assert not any(map(psutil.pid_exists, before.values()))


def test_what_an_up_that_was_killed_did_not_record_is_taken_in_and_nothing_that_a_part_runs(given: Given) -> None:
    # As a load run of the executor's, which has a session of its own.
    run = ("sh", "-c", "setsid sleep 60 & wait")
    given.given = (part("first", lambda pid: True, *run), part("second", lambda pid: True))
    given.up(lambda line: None)
    before = given.running()
    (child,) = eventually(
        lambda: [each for each in before["first"].children() if os.getsid(each.pid) == each.pid], bool
    )
    (given.home / "run" / "processes.json").write_text(json.dumps({}))
    told: list[str] = []
    given.up(told.append)
    assert told == []
    assert given.running() == before and child.is_running()


@pytest.mark.parametrize("verb", ["up", "down"])
def test_what_a_killed_server_left_is_ended_and_no_child_of_what_runs(given: Given, verb: str) -> None:
    child = ("sh", "-c", "sleep 60 & wait")
    given.given = tuple(part(name, lambda pid: True, *child) for name in ("first", "second"))
    given.up(lambda line: None)
    first, second = (given.running()[name] for name in ("first", "second"))
    (orphan,) = eventually(first.children, bool)
    (child_of_second,) = eventually(second.children, bool)
    first.kill()
    first.wait()
    told: list[str] = []

    getattr(given, verb)(told.append)

    assert f"ending process {orphan.pid}, which first left" in told
    assert not orphan.is_running()
    assert child_of_second.is_running() is (verb == "up")
    given.down(lambda line: None)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_supervisors_record_that_lost_its_content_is_refused_in_words(settings: Settings, content: str) -> None:
    installation = StagingOnly(settings, {}, lambda pid: True, lambda: None)
    (own,) = installation.parts()
    (settings.home / "run").mkdir()
    own.records[0].write_text(content)
    with pytest.raises(UsageError, match=r"record .* is not readable") as refused:
        installation.up(lambda line: None)
    assert "move it away" in refused.value.next and installation.running() == {}


@pytest.mark.parametrize("verb", ["down", "destroy"])
@pytest.mark.parametrize("content", ["its replica", "another replica", "["])
def test_replicas_of_a_killed_supervisor_are_ended_whether_their_record_names_them_or_not(
    settings: Settings, verb: str, content: str
) -> None:
    record = record_path(settings.home, settings.endpoint(Environment.PRODUCTION))
    record.parent.mkdir()
    private = settings.home / "run" / "live-1.sock"
    # One that an earlier Slipway's supervisor has started bears no mark.
    environ = {} if content == "its replica" else {MARK: mark(record, "live-1", private)}
    with subprocess.Popen(["sleep", "60"], env={**os.environ, **environ}, start_new_session=True) as replica:
        # Who ends it is not its parent, and waits for as long as there is a zombie.
        threading.Thread(target=replica.wait, daemon=True).start()
        named = ProcessRecord("live-1", replica.pid, birth(replica.pid), None, None, str(private))
        another = replace(named, pid=os.getpid(), born="another boot")
        known = Record(processes=[named if content == "its replica" else another])
        record.write_text("[" if content == "[" else json.dumps(known.as_dict()))
        told: list[str] = []
        try:
            getattr(Nothing(settings, {}, lambda pid: True, lambda: None), verb)(told.append)
            # It is gone before the thread that waits has told so.
            assert replica.wait(timeout=10) == -signal.SIGTERM
            assert told == [f"ending live-1 (process {replica.pid}), which a supervisor left"]
        finally:
            replica.kill()


def test_a_port_that_a_replica_of_a_lost_record_holds_is_its_supervisors(settings: Settings) -> None:
    (own,) = StagingOnly(settings, {}, lambda pid: True, lambda: None).parts()
    environ = {**os.environ, MARK: mark(own.records[0], "live-1", settings.home / "none.sock")}
    with subprocess.Popen(["sleep", "60"], env=environ, start_new_session=True) as replica:
        assert own.has_left_replicas
        replica.kill()
    assert not own.has_left_replicas
