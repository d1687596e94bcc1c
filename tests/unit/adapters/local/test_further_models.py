"""What a local installation does for models beside the default one: ports and supervisors of their own."""

import json
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from pipelines.adapters.local import ports
from pipelines.adapters.local.installation import LocalInstallation
from pipelines.adapters.local.parts import Part, supervisors_of
from pipelines.adapters.local.private_json import write_private
from pipelines.adapters.local.supervisor.home import (
    Record,
    SlotRecord,
    SupervisorHome,
    former_record_paths,
    record_path,
)
from pipelines.adapters.local.supervisor.identity import birth
from pipelines.adapters.local.supervisor.wire import Deployment
from pipelines.domain.release import Endpoint, Environment, Slot
from pipelines.settings.installation import InstallationRecord, begin_record, keep_model, kept_models
from pipelines.settings.models import KeptModel, ModelProject
from pipelines.settings.settings import Settings
from tests.support.servers.servers import free_port
from tests.support.world.records import MODEL, release

OTHER = "other-model"


class Nothing(LocalInstallation):
    """An installation that starts nothing."""

    def parts(self) -> list[Part]:
        """Return none."""
        return []


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A project with two models, whose installation began."""
    project = tmp_path / "project"
    for folder, name in ((project, "first"), (project / "models" / OTHER, OTHER)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.yaml").write_text(f"name: {name}\n")
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home"), "SLIPWAY_PROJECT": str(project)})
    settings.home.mkdir(mode=0o700)
    begin_record(settings)
    return settings


def installation(settings: Settings) -> Nothing:
    return Nothing(settings, {}, lambda pid: True, lambda: None)


def kept_ports(settings: Settings) -> dict[str, int]:
    (kept,) = kept_models(settings.home)
    return kept.ports


def test_each_model_has_supervisors_of_its_own_and_the_default_one_keeps_its_ports(settings: Settings) -> None:
    keep_model(
        settings, KeptModel(name=OTHER, folder="models/other-model", ports={"staging": 8301, "production": 8302})
    )
    parts = LocalInstallation(settings, {}, lambda pid: True, lambda: None).parts()
    supervisors = {part.name: part for part in parts if part.name.startswith("supervisor-")}
    assert {name: part.port for name, part in supervisors.items()} == {
        "supervisor-staging-first": settings.staging_port,
        "supervisor-production-first": settings.production_port,
        "supervisor-staging-other-model": 8301,
        "supervisor-production-other-model": 8302,
    }
    # What was left at the times of one model is the default one's.
    assert [len(part.records) for name, part in supervisors.items() if name.endswith(OTHER)] == [1, 1]


def test_a_model_has_its_supervisors_while_another_of_the_project_is_not_added_yet(settings: Settings) -> None:
    (settings.project / "models" / "not-added").mkdir()
    (settings.project / "models" / "not-added" / "model.yaml").write_text("name: not-added\n")
    ports = {"staging": 8301, "production": 8302}
    keep_model(settings, KeptModel(name=OTHER, folder=f"models/{OTHER}", ports=ports))
    assert [part.port for part in supervisors_of(settings, OTHER, "code")] == [8301, 8302]


def test_ports_are_chosen_once_and_kept(settings: Settings) -> None:
    told: list[str] = []
    installation(settings).up(told.append)
    chosen = kept_ports(settings)
    assert set(chosen) == {"staging", "production"}
    assert len(set(chosen.values()) | settings.own_ports) == 2 + len(settings.own_ports)
    assert len(told) == 2
    installation(settings).up(told.append)
    assert (kept_ports(settings), len(told)) == (chosen, 2)


def test_a_port_that_somebody_else_took_meanwhile_is_replaced_and_told(settings: Settings) -> None:
    told: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        folder = "models/other-model"
        keep_model(settings, KeptModel(name=OTHER, folder=folder, ports={"staging": port, "production": free_port()}))
        before = kept_ports(settings)
        installation(settings).up(told.append)
    after = kept_ports(settings)
    assert after["production"] == before["production"]
    assert after["staging"] != port
    assert f"in place of {port}, which is taken" in told[0]


def test_a_home_that_lost_its_record_takes_the_ports_from_the_supervisors(settings: Settings) -> None:
    ports = {Environment.STAGING: free_port(), Environment.PRODUCTION: free_port()}
    (settings.home / "run").mkdir()
    for environment, port in ports.items():
        record = record_path(settings.home, Endpoint(OTHER, environment))
        record.write_text(json.dumps(Record(ports={Slot.LIVE: port, Slot.TRIAL: 1}).as_dict()))
    told: list[str] = []
    installation(settings).up(told.append)
    assert (kept_ports(settings), told) == (ports, [])


def test_no_two_models_get_the_same_port(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: True)
    third = settings.project / "models" / "third"
    third.mkdir()
    (third / "model.yaml").write_text("name: third\n")
    installation(settings).up(lambda line: None)
    chosen = [port for kept in kept_models(settings.home) for port in kept.ports.values()]
    assert len(chosen) == len(set(chosen)) == 4


@pytest.mark.parametrize("verb", ["up", "remove"])
def test_supervisors_of_a_removed_model_are_ended_and_others_left(settings: Settings, verb: str) -> None:
    names = (f"supervisor-staging-{OTHER}", "supervisor-staging-first")
    processes = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in names]
    try:
        recorded = {name: [process.pid, birth(process.pid)] for name, process in zip(names, processes, strict=True)}
        (settings.home / "run").mkdir()
        write_private(settings.home / "run" / "processes.json", recorded)
        keep_model(settings, KeptModel(name=OTHER, folder="models/other-model", removed=True))
        if verb == "up":
            installation(settings).up(lambda line: None)
        else:
            installation(settings).remove_model(OTHER, lambda line: None)
        assert not psutil.pid_exists(processes[0].pid)
        assert psutil.pid_exists(processes[1].pid) and processes[1].poll() is None
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_model_from_elsewhere_is_kept_with_its_folder(settings: Settings, tmp_path: Path) -> None:
    keep_model(settings, KeptModel.of(ModelProject("third", tmp_path / "third"), settings.project))
    record = InstallationRecord.read(settings.home)
    assert record and record.models[0].folder == str(tmp_path / "third")


@pytest.mark.parametrize("part", ["serving", "wanted"])
def test_what_was_left_at_the_times_of_one_model_is_taken_over_by_that_model_alone(tmp_path: Path, part: str) -> None:
    own, other = (SupervisorHome(tmp_path, Endpoint(model, Environment.PRODUCTION)) for model in (MODEL, OTHER))
    slot = SlotRecord(**{part: Deployment(release("r-1").release, tmp_path / "bundle")})
    former = former_record_paths(tmp_path, Environment.PRODUCTION)[0]
    former.write_text(json.dumps(Record(epoch=7, slots={Slot.LIVE: slot}).as_dict()))
    assert other.load() == Record()
    assert own.load().epoch == 7
    assert not former.exists()


def test_projects_that_contradict_each_other_keep_nobody_from_stopping_what_runs(settings: Settings) -> None:
    name = f"supervisor-staging-{OTHER}"
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        (settings.home / "run").mkdir()
        write_private(settings.home / "run" / "processes.json", {name: [process.pid, birth(process.pid)]})
        (settings.project / "models" / OTHER / "model.yaml").write_text("name: another\n")
        installation(settings).down(lambda line: None)
        assert process.wait(20) is not None
    finally:
        process.kill()
        process.wait()
