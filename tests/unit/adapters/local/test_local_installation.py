"""What `up`, `down` and `destroy` do with processes that the home records, and are not today's own."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pipelines.adapters.local.installation import LocalInstallation, Part
from pipelines.adapters.local.supervisor.home import ProcessRecord, Record
from pipelines.adapters.local.supervisor.identity import birth
from pipelines.adapters.local.told_api import ToldApi
from pipelines.domain.release import Environment
from pipelines.errors import OtherModel
from pipelines.settings.installation import InstallationRecord
from pipelines.settings.settings import Settings
from pipelines.settings.tokens import make_tokens
from tests.support.servers.servers import free_port

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

    def end(self) -> None:
        """Take it down, and wait for it as its parent."""
        self.down(lambda line: None)
        for process in self._started.values():
            process.wait()


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
    installation = Nothing(settings, {}, lambda pid: True)
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
    installation = Nothing(settings, {}, lambda pid: True)
    with pytest.raises(OtherModel, match=r"of model 'other-model', and .* names 'churn-model'"):
        getattr(installation, verb)(lambda line: None)
    assert [process.poll() for process in processes] == [None, None, None]


def test_destroy_ends_it_whatever_its_model(
    recorded: Callable[..., list["subprocess.Popen[bytes]"]], settings: Settings
) -> None:
    recorded("api", "supervisor-staging-other-model")
    installation = Nothing(settings, {}, lambda pid: True)
    installation.destroy(lambda line: None)
    assert installation.running() == {}


def test_an_api_that_knows_another_id_or_other_tokens_is_started_anew(
    recorded: Callable[..., list["subprocess.Popen[bytes]"]], settings: Settings
) -> None:
    InstallationRecord(id="ours", settings={}).write(settings.home)
    make_tokens(settings.tokens_file)
    (api,) = recorded("api")
    installation = Nothing(settings, {}, lambda pid: True)
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
    installation = StagingOnly(settings, {}, lambda pid: True)
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as replica:
        assert replica.stdout and replica.stdout.readline()
        left = ProcessRecord("live-0", replica.pid, birth(replica.pid), None, None, str(settings.home / "none.sock"))
        (settings.home / "run").mkdir()
        (settings.home / "run" / "supervisor-staging.json").write_text(json.dumps(Record(processes=[left]).as_dict()))
        try:
            installation.up(lambda line: None)
            assert replica.wait(timeout=10) != 0
            with socket.create_connection(("127.0.0.1", settings.staging_port), timeout=5):
                assert list(installation.running()) == ["supervisor-staging-churn-model"]
        finally:
            installation.end()
            replica.kill()
