"""A home that is backed up and restored: the same history and proof, and another installation."""

from pathlib import Path

import pytest

from pipelines.adapters.local.supervisor.home import SupervisorHome
from pipelines.domain import audit
from pipelines.domain.records import LeaderLease, PolicyChange
from pipelines.domain.release import Endpoint, Environment
from pipelines.errors import BackupDamaged, OtherModel, TargetUnavailable, UsageError
from pipelines.operator.backup import back_up, restore
from pipelines.settings.installation import InstallationRecord, begin_record, keep_record
from pipelines.settings.settings import Settings
from pipelines.settings.tokens import make_tokens
from pipelines.wiring.stores import open_checkpoints, open_records
from tests.support.world.records import NOW, put_in_force

PORTS = {"SLIPWAY_PORT_API": "18080"}


def told(line: str) -> None:
    """Hear progress."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation with a policy and an executor that was there a moment ago."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    settings = Settings.from_environ({"SLIPWAY_HOME": str(home), **PORTS})
    make_tokens(settings.tokens_file)
    begin_record(settings)
    keep_record(settings)
    records = open_records(settings)
    put_in_force(records)
    with records.write() as transaction:
        transaction.audit("alice", "policy", "intent", subject="y-1")
        transaction.add(LeaderLease("executor", "one", 1, 0.0, NOW))
    records.close()
    bundle = home / "bundles" / "sha256-1"
    bundle.mkdir(parents=True)
    (bundle / "model.onnx").write_bytes(b"model")
    supervisor = SupervisorHome(home, Endpoint("churn-model", Environment.STAGING))
    supervisor.save(supervisor.load())
    (home / "logs" / "api.log").write_text("a line")
    return settings


def restored(tmp_path: Path, **environ: str) -> Settings:
    given = {"SLIPWAY_HOME": str(tmp_path / "new"), **environ}
    settings = Settings.from_environ(given)
    restore(tmp_path / "backup", None, settings, given, told)
    return settings


def test_a_restored_home_has_the_history_and_proof_of_the_old_one_and_an_id_of_its_own(
    tmp_path: Path, settings: Settings
) -> None:
    back_up(tmp_path / "backup", [], settings, {}, told)
    new = restored(tmp_path)
    records = open_records(new)
    trail = list(records.audit_trail())
    assert audit.prove(trail, open_checkpoints(new).checkpoints()).valid
    assert [entry.action for entry in trail] == ["policy", "restore"]
    assert len(records.find(PolicyChange)) == 1 and records.find(LeaderLease)[0].left_at
    records.close()
    assert (new.home / "bundles/sha256-1/model.onnx").read_bytes() == b"model"
    assert new.tokens_file.read_text() == settings.tokens_file.read_text()
    # Nothing that told of processes: a supervisor would end those of the old home.
    assert not (new.home / "run").exists() and not (new.home / "logs").exists()
    old, kept = InstallationRecord.read(settings.home), InstallationRecord.read(new.home)
    assert old and kept and kept.id != old.id
    assert (kept.model, kept.settings) == (old.model, old.settings)
    assert list(tmp_path.glob(".*")) == [] and not (settings.home / "run" / "backup").exists()
    assert new.home.stat().st_mode & 0o777 == 0o700


def test_other_ports_are_taken_from_the_environment(tmp_path: Path, settings: Settings) -> None:
    back_up(tmp_path / "backup", [], settings, {}, told)
    kept = InstallationRecord.read(restored(tmp_path, SLIPWAY_PORT_API="18181").home)
    assert kept and kept.settings["SLIPWAY_PORT_API"] == "18181"


def test_a_used_home_is_refused_and_stays_as_it_was(tmp_path: Path, settings: Settings) -> None:
    back_up(tmp_path / "backup", [], settings, {}, told)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "precious").touch()
    with pytest.raises(UsageError, match="is used"):
        restored(tmp_path)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["precious"]


def test_a_damaged_backup_leaves_no_home_and_an_interrupted_restore_is_taken_up_again(
    tmp_path: Path, settings: Settings
) -> None:
    back_up(tmp_path / "backup", [], settings, {}, told)
    whole = (tmp_path / "backup").read_bytes()
    (tmp_path / "backup").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BackupDamaged):
        restored(tmp_path)
    assert not (tmp_path / "new").exists()
    # What a killed restore leaves.
    assert (tmp_path / ".new.restoring").is_dir()
    (tmp_path / "backup").write_bytes(whole)
    assert restored(tmp_path).tokens_file.exists()
    assert not (tmp_path / ".new.restoring").exists()


def test_a_backup_of_another_target_or_model_is_refused(tmp_path: Path, settings: Settings) -> None:
    back_up(tmp_path / "backup", [], settings, {}, told)
    with pytest.raises(TargetUnavailable, match="TARGET=local"):
        restored(tmp_path, TARGET="docker")
    project = tmp_path / "project"
    project.mkdir()
    (project / "model.yaml").write_text("name: another\n")
    with pytest.raises(OtherModel, match="churn-model"):
        restored(tmp_path, SLIPWAY_PROJECT=str(project))
    assert not (tmp_path / "new").exists()


def test_nothing_is_backed_up_where_nothing_was_brought_up(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no installation"):
        back_up(tmp_path / "backup", [], Settings.from_environ({"SLIPWAY_HOME": str(tmp_path)}), {}, told)
