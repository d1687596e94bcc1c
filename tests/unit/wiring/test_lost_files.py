"""A home that has lost a database is refused by the file's name, and nothing takes its place silently."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.adapters.local.installation import LocalInstallation
from pipelines.adapters.local.mlflow_store import upgrade_mlflow
from pipelines.adapters.workflows.dbos import DbosEngine
from pipelines.errors import DatabaseUnavailable, SlipwayError, UsageError
from pipelines.operator.backup import back_up
from pipelines.settings.installation import begin_record, keep_record
from pipelines.settings.settings import Settings
from pipelines.wiring.stores import open_records, upgrade_tables

DATABASES = ["slipway.db", "workflows.db", "mlflow.db"]
LOSSES: dict[str, Callable[[Path], object]] = {
    "is missing": Path.unlink,
    "is empty": lambda file: file.write_bytes(b""),
    "is no database any more": lambda file: file.write_bytes(bytes(file.stat().st_size)),
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An installation that came up, and is at rest."""
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home")})
    settings.home.mkdir()
    begin_record(settings)
    records = open_records(settings)
    with records.write() as transaction:
        transaction.audit("alice", "policy", "intent", subject="y-1")
    records.close()
    for name in DATABASES[1:]:
        with closing(sqlite3.connect(settings.home / name)) as database:
            database.execute("CREATE TABLE kept (row)")
    keep_record(settings)
    return settings


def refusal(action: Callable[[], object]) -> SlipwayError:
    with pytest.raises(SlipwayError) as refused:
        action()
    assert refused.value.next
    return refused.value


def contents(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.iterdir() if path.is_file() and path.suffix != ".lock"}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", DATABASES)
def test_up_and_backup_name_the_file_that_was_lost_and_make_none(
    settings: Settings, tmp_path: Path, name: str, loss: str
) -> None:
    LOSSES[loss](settings.home / name)
    before = contents(settings.home)
    installation = LocalInstallation(settings, {}, lambda pid: True, lambda: upgrade_tables(settings))
    for action in (
        lambda: installation.up(lambda line: None),
        lambda: back_up(tmp_path / "backup", [], settings, {}, lambda line: None),
    ):
        refused = refusal(action)
        assert isinstance(refused, UsageError) and f"{settings.home / name} {loss}" in refused.message
        assert "make restore" in refused.next
    assert contents(settings.home) == before and not (tmp_path / "backup").exists()
    # What takes it down for ever asks for none of it.
    installation.destroy(lambda line: None)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("proof", ["installation.json", "audit-heads.jsonl"])
def test_records_that_were_lost_are_not_opened_as_new_ones(settings: Settings, loss: str, proof: str) -> None:
    LOSSES[loss](settings.home / "slipway.db")
    (settings.home / ({"installation.json", "audit-heads.jsonl"} - {proof}).pop()).unlink()
    before = contents(settings.home)
    for action in (lambda: open_records(settings), lambda: upgrade_tables(settings)):
        assert f"slipway.db {loss}" in refusal(action).message
    assert contents(settings.home) == before


def test_a_home_that_never_came_up_begins_with_none_of_them(tmp_path: Path) -> None:
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home")})
    settings.home.mkdir()
    begin_record(settings)
    upgrade_tables(settings)
    open_records(settings).close()
    upgrade_mlflow(settings.home / "mlflow.db", {}, lambda line: None)


def scribble(file: Path) -> None:
    """Leave the file its beginning, and nothing else."""
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))


def test_a_file_that_is_damaged_further_on_is_a_refusal_with_its_name(settings: Settings) -> None:
    for name in DATABASES:
        scribble(settings.home / name)
    journal = DbosEngine(settings.workflows_url)
    for name, action in (
        ("workflows.db", journal.launch),
        ("mlflow.db", lambda: upgrade_mlflow(settings.home / "mlflow.db", {}, lambda line: None)),
    ):
        refused = refusal(action)
        assert isinstance(refused, UsageError) and f"{settings.home / name} is damaged: " in refused.message

    def read_records() -> None:
        with closing(open_records(settings)) as records:
            records.newest_audit(1)

    refused = refusal(read_records)
    assert isinstance(refused, DatabaseUnavailable) and "the file of the database is damaged: " in refused.message
    assert "make restore" in refused.next


def test_a_journal_that_was_zeroed_is_refused_before_the_engine_begins(settings: Settings) -> None:
    LOSSES["is no database any more"](settings.home / "workflows.db")
    assert (
        "workflows.db is damaged: file is not a database" in refusal(DbosEngine(settings.workflows_url).launch).message
    )
