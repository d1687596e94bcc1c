"""A home that is backed up and restored: the same history and proof, and another installation."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.backup.archive import describe_files, write_archive
from pipelines.adapters.backup.local_home import LocalHome
from pipelines.adapters.database.tables import SCHEMA_VERSION
from pipelines.adapters.local.supervisor.home import SupervisorHome
from pipelines.domain import audit
from pipelines.domain.audit import Checkpoint
from pipelines.domain.backup import FORMAT, Manifest
from pipelines.domain.records import LeaderLease, PolicyChange, ReleaseRecord
from pipelines.domain.release import Endpoint, Environment
from pipelines.errors import BackupDamaged, OtherModel, TargetUnavailable, Undecided, UsageError
from pipelines.operator.backup import back_up, restore
from pipelines.settings.installation import InstallationRecord, begin_record, keep_record
from pipelines.settings.settings import Settings
from pipelines.settings.tokens import make_tokens
from pipelines.wiring.stores import open_checkpoints, open_records
from tests.support.world.old_installation import FIXTURE, load_sqlite
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
    records = open_records(settings)
    put_in_force(records)
    with records.write() as transaction:
        transaction.audit("alice", "policy", "intent", subject="y-1")
        transaction.add(LeaderLease("executor", "one", 1, 0.0, NOW))
    records.close()
    for name in ("mlflow.db", "workflows.db"):
        with closing(sqlite3.connect(home / name)) as database:
            database.execute("CREATE TABLE kept (row)")
    keep_record(settings)
    bundle = home / "bundles" / "sha256-1"
    bundle.mkdir(parents=True)
    (bundle / "model.onnx").write_bytes(b"model")
    supervisor = SupervisorHome(home, Endpoint("churn-model", Environment.STAGING))
    supervisor.save(supervisor.load())
    (home / "logs" / "api.log").write_text("a line")
    job = home / "jobs" / "job-1"
    job.mkdir(parents=True)
    (job / "model.onnx").write_bytes(b"a copy, for as long as the job takes")
    return settings


def restored(tmp_path: Path, *, expected: str | None = None, **environ: str) -> Settings:
    restored_as(tmp_path, expected=expected, **environ)
    return Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "new"), **environ})


def restored_as(tmp_path: Path, *, expected: str | None = None, **environ: str) -> dict[str, Any]:
    given = {"SLIPWAY_HOME": str(tmp_path / "new"), **environ}
    head = Checkpoint.parse(expected) if expected else None
    return restore(tmp_path / "backup", None, Settings.from_environ(given), given, told, expected=head)


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
    assert not any((new.home / name).exists() for name in ("run", "logs", "jobs"))
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


def test_a_backup_tells_its_head_and_a_restore_whether_it_holds_the_one_that_was_expected(
    tmp_path: Path, settings: Settings
) -> None:
    first = back_up(tmp_path / "backup", [], settings, {}, told)["head"]
    records = open_records(settings)
    newest = Checkpoint(1, records.newest_audit(1)[0].hash)
    assert first == str(newest)
    with records.write() as transaction:
        transaction.audit("alice", "policy", "outcome", subject="y-1")
    records.close()
    second = back_up(tmp_path / "second", [], settings, {}, told)["head"]
    # What was told of an older backup is held by a newer one, and not the other way round.
    with pytest.raises(BackupDamaged, match="the chain ends at entry 1, but a checkpoint outside names entry 2"):
        restored(tmp_path, expected=second)
    assert not (tmp_path / "new").exists()
    (tmp_path / "second").rename(tmp_path / "backup")
    done = restored_as(tmp_path, expected=first)
    assert (done["head"], done["holds_expected"]) == (second, True)


def test_a_backup_that_was_forged_with_its_checkpoints_is_found_by_a_head_from_elsewhere(
    tmp_path: Path, settings: Settings
) -> None:
    head = back_up(tmp_path / "true", [], settings, {}, told)["head"]
    forged = replace(settings, home=tmp_path / "forged")
    records = open_records(forged)
    with records.write() as transaction:
        transaction.audit("mallory", "policy", "intent", subject="y-1")
    records.close()
    for name in ("slipway.db", "audit-heads.jsonl"):
        (forged.home / name).replace(settings.home / name)
    back_up(tmp_path / "backup", [], settings, {}, told)
    with pytest.raises(BackupDamaged, match="entry 1 differs from its checkpoint outside"):
        restored(tmp_path, expected=head)
    assert restored_as(tmp_path)["holds_expected"] is None


@pytest.mark.parametrize("text", ["7", "0:" + "a" * 64, "1:" + "A" * 64, "1:abc", "x" * 1000])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no head of an audit log"):
        Checkpoint.parse(text)


def test_what_is_being_stored_or_removed_is_in_no_backup(tmp_path: Path, settings: Settings) -> None:
    for name in (".partial-x1", ".aside-sha256-2", ".gone-3"):
        (settings.home / "bundles" / name).mkdir()
        (settings.home / "bundles" / name / "model.onnx").write_bytes(b"model")
    back_up(tmp_path / "backup", [], settings, {}, told)
    new = restored(tmp_path)
    assert [path.name for path in (new.home / "bundles").iterdir()] == ["sha256-1"]


# As a Windows client, a careless script, or somebody with bad intent logs them; all that a disk takes.
STRANGE = [b"plots\\b.png", b"a\tb\nc", b"caf\xe9.txt", b"d/" * 600 + b"deep", "\u00e9".encode() * 127]
ENDINGS = [
    "uv.lock",
    "loss-wal",
    "t-shm",
    "x-journal",
    "weights.partial",
    ".partial-1/f",
    ".gone-/f",
    "bundles/.aside-/f",
]


def test_every_artifact_of_a_run_comes_back_whatever_its_name(tmp_path: Path, settings: Settings) -> None:
    artifacts = settings.home / "artifacts/1/a/artifacts"
    names = [*STRANGE, *map(os.fsencode, ENDINGS)]
    for name in names:
        path = artifacts / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name)
    back_up(tmp_path / "backup", [], settings, {}, told)
    new = restored(tmp_path).home / "artifacts/1/a/artifacts"
    assert {name: (new / os.fsdecode(name)).read_bytes() for name in names} == {name: name for name in names}
    assert sum(path.is_file() for path in new.rglob("*")) == len(names)
    assert list(tmp_path.glob(".*")) == []


def test_folders_of_the_home_that_are_on_another_disk_are_backed_up_and_deeper_links_are_named(
    tmp_path: Path, settings: Settings
) -> None:
    disk, artifact = tmp_path / "disk", "1/a/artifacts/model.onnx"
    disk.mkdir()
    (settings.home / "bundles").rename(disk / "bundles")
    (disk / "artifacts" / artifact).parent.mkdir(parents=True)
    (disk / "artifacts" / artifact).write_bytes(b"artifact")
    (disk / "bundles" / ".aside-sha256-2").mkdir()
    (disk / "artifacts" / "strange").symlink_to("/etc")
    for name in ("bundles", "artifacts"):
        (settings.home / name).symlink_to(disk / name)
    lines = list[str]()
    back_up(tmp_path / "backup", [], settings, {}, lines.append)
    new = restored(tmp_path).home
    assert (new / "bundles/sha256-1/model.onnx").read_bytes() == b"model"
    assert (new / "artifacts" / artifact).read_bytes() == b"artifact"
    assert not (new / "artifacts").is_symlink() and not (new / "artifacts/strange").exists()
    assert [line for line in lines if "link" in line] == [
        f"left out {str(settings.home / 'artifacts/strange')!r}, which is a link to a folder"
    ]


def test_what_slipway_is_writing_at_a_place_of_its_own_is_in_no_backup(tmp_path: Path, settings: Settings) -> None:
    (settings.home / "evaluation-sets").mkdir()
    for name in ("tokens.json.partial", "home.lock", "mlflow.db.partial-journal", "evaluation-sets/s.partial"):
        (settings.home / name).touch()
    back_up(tmp_path / "backup", [], settings, {}, told)
    left = [path.name for path in restored(tmp_path).home.rglob("*") if path.suffix in (".partial", ".lock")]
    assert left == []


FORGED = {
    "a way out": [("../../out", "00000001")],
    "a whole path": [("/out", "00000001")],
    "a place that is taken": [("tokens.json", "00000001")],
    "a folder that is a file": [("tokens.json/x", "00000001")],
    "a nul": [("a\0b", "00000001")],
    "a file of the machine": [("a\nb", "/etc/passwd")],
    "a file of the home": [("a\nb", "../home/tokens.json")],
    "one file twice": [("a\nb", "00000001"), ("a\nc", "00000001")],
    "no file": [],
}


@pytest.mark.parametrize("how", FORGED)
def test_a_forged_index_of_names_reaches_no_other_file(tmp_path: Path, settings: Settings, how: str) -> None:
    (settings.home / "a\nb").write_text("content")
    (tmp_path / "scratch").mkdir()
    sources = LocalHome(settings.home).capture(tmp_path / "scratch", told)
    lines = [json.dumps({"key": key, "file": file}) + "\n" for key, file in FORGED[how]]
    sources["numbered/index.jsonl"].write_text("".join(lines))
    archived(tmp_path, settings, {}, sources)
    with pytest.raises(BackupDamaged):
        restored(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup", "home", "scratch"]


def test_a_file_that_is_removed_while_it_is_backed_up_is_undecided(tmp_path: Path, settings: Settings) -> None:
    bundle = settings.home / "bundles" / "sha256-1"

    def remove(line: str) -> None:
        if "left out" in line:
            shutil.rmtree(bundle)

    # What is no plain file is told of, here after the bundles were found.
    (settings.home / "zz").mkdir()
    os.mkfifo(settings.home / "zz" / "pipe")
    with pytest.raises(Undecided, match=r"model\.onnx can't be backed up any more") as undecided:
        back_up(tmp_path / "backup", [], settings, {}, remove)
    assert undecided.value.next == "back up again"
    assert not (tmp_path / "backup").exists()


def test_a_place_that_can_not_be_written_to_is_undecided(tmp_path: Path, settings: Settings) -> None:
    (settings.home / "run" / "backup").write_text("in the way")
    with pytest.raises(Undecided, match="can't back up") as undecided:
        back_up(tmp_path / "backup", [], settings, {}, told)
    assert "then back up again" in undecided.value.next


def test_a_backup_of_the_oldest_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    archived(tmp_path, old_home(tmp_path), {"records": 2, "mlflow": "3.1.0", "policy": 1})
    done = restored_as(tmp_path)
    new = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "new")})
    records = open_records(new)
    trail = list(records.audit_trail())
    releases = [(each.id, each.version, each.state) for each in records.find(ReleaseRecord)]
    records.close()
    old = open_checkpoints(replace(new, home=FIXTURE / "home")).checkpoints()
    assert audit.prove(trail, [*old, *open_checkpoints(new).checkpoints()]).valid
    assert done["head"] == str(old[-1]) and trail[-1].action == "restore"
    assert [(id, version) for id, version, _ in releases] == [("r-1", "1"), ("r-2", "1"), ("r-3", "2")]
    assert {path.name for path in (new.home / "bundles").iterdir()} == {
        path.name for path in (FIXTURE / "home/bundles").iterdir()
    }


def test_a_backup_of_a_newer_slipway_is_refused_with_both_versions(tmp_path: Path) -> None:
    archived(tmp_path, old_home(tmp_path), {"records": SCHEMA_VERSION + 1})
    with pytest.raises(UsageError, match=f"is of version {SCHEMA_VERSION + 1}, and .* reads {SCHEMA_VERSION} at most"):
        restored(tmp_path)
    assert not (tmp_path / "new").exists()


def old_home(tmp_path: Path) -> Settings:
    """Return the settings of an installation of the oldest schema."""
    home = tmp_path / "old"
    shutil.copytree(FIXTURE / "home", home)
    for name in ("slipway", "mlflow", "workflows"):
        load_sqlite(home / f"{name}.db", name)
    settings = Settings.from_environ({"SLIPWAY_HOME": str(home)})
    make_tokens(settings.tokens_file)
    begin_record(settings)
    return settings


def archived(
    tmp_path: Path, settings: Settings, formats: dict[str, int | str], sources: dict[str, Path] | None = None
) -> None:
    """Write the backup that a Slipway of these formats would have written of a home, or of what was made of it."""
    if sources is None:
        (tmp_path / "scratch").mkdir()
        sources = LocalHome(settings.home).capture(tmp_path / "scratch", told)
    manifest = Manifest(
        format=1 if formats else FORMAT, created_at="2026-01-01T00:00:00+00:00", slipway="0.0.1", target="local",
        model="churn-model", installation_id=None, formats=formats, files=describe_files(sources),
    )  # fmt: skip
    write_archive(tmp_path / "backup", manifest, sources, [])


def test_a_damaged_backup_leaves_no_home_and_an_interrupted_restore_is_taken_up_again(
    tmp_path: Path, settings: Settings
) -> None:
    back_up(tmp_path / "backup", [], settings, {}, told)
    whole = (tmp_path / "backup").read_bytes()
    (tmp_path / "backup").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BackupDamaged):
        restored(tmp_path)
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / ".new.restoring").exists()
    # What a killed restore leaves.
    (tmp_path / ".new.restoring" / "home").mkdir(parents=True)
    (tmp_path / ".new.restoring" / "manifest.json").write_text("{")
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
