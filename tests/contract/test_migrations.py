"""Upgrades of the database, on SQLite and on a real PostgreSQL: what an older Slipway kept goes on to be kept."""

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from pipelines.adapters.database import migration
from pipelines.adapters.database.records import SqlRecords, prepare_records, upgrade_file
from pipelines.adapters.database.tables import NAMES, SCHEMA_VERSION, record_tables
from pipelines.domain.audit import prove
from pipelines.domain.promotion import RunState
from pipelines.domain.records import (
    Approval,
    Evaluation,
    LeaderLease,
    Maintenance,
    Observation,
    PinnedVersion,
    Promotion,
    Record,
    ReleaseRecord,
    Rollback,
)
from pipelines.domain.release import Environment
from pipelines.errors import OlderTables, UsageError
from pipelines.governance.progress import progress_of
from pipelines.releases.maintenance import LIMIT_S, left_s
from tests.support.servers.databases import APPLICATION, Place, bare_place, bare_sqlite
from tests.support.world.old_installation import OLD_CHECKPOINTS, old_tables
from tests.support.world.records import NOW, add, promotion

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["sqlite", "postgres"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A database without any table."""
    if request.param == "sqlite":
        return bare_sqlite(tmp_path)
    return bare_place(request.getfixturevalue("postgres"), tmp_path)


@pytest.fixture
def old(bare: Place) -> Place:
    """The database of an installation of schema 2: one version serves, the next one waits for people."""
    old_tables(bare)
    bare.checkpoints_file.write_bytes(OLD_CHECKPOINTS.read_bytes())
    return bare


def upgrade(place: Place) -> None:
    if place.url.startswith("postgresql"):
        prepare_records(place.owner_url, APPLICATION)
    else:
        upgrade_file(place.url)
    place.open().close()


def number_of(place: Place) -> int:
    """Return the schema's number as a Slipway of before revisions reads it."""
    if place.url.startswith("sqlite"):
        return int(str(place.execute("PRAGMA user_version")[0][0]))
    (told,) = place.execute("SELECT obj_description('audit_log'::regclass, 'pg_class')")[0]
    return int(str(told).removeprefix("slipway schema "))


def test_the_revisions_make_what_the_records_describe(bare: Place) -> None:
    upgrade(bare)

    engine = sa.create_engine(bare.owner_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        found = compare_metadata(context, record_tables().metadata)
    engine.dispose()
    # The comment is the schema's number.
    differences = [difference for difference in found if difference[0] != "remove_table_comment"]
    assert differences == [], "write the next file in pipelines/adapters/database/revisions/ for them"
    assert number_of(bare) == SCHEMA_VERSION


def test_there_is_one_newest_revision_and_it_is_the_schema_that_the_code_asks_for() -> None:
    from alembic.script import ScriptDirectory

    folder = str(Path(migration.__file__).parent / "revisions")

    assert ScriptDirectory(folder, version_locations=[folder]).get_heads() == [f"{SCHEMA_VERSION:04}"]


def test_an_old_installation_keeps_its_records_its_proof_and_what_it_told(old: Place) -> None:
    upgrade(old)

    with old.opened() as records:
        (waiting,) = records.find(Promotion, state=RunState.WAITING)
        assert records.get(Evaluation, waiting.evaluation_id).report is not None
        assert [release.version for release in records.find(ReleaseRecord, environment="production")] == ["1"]
        told = progress_of(records, waiting.evaluation_id)
        assert (told[0].step, told[-1].step) == ("K0 lease taken", "K10 lease given back")
        proved = prove(records.audit_trail(), old.checkpoints.checkpoints())
        assert proved.valid and proved.entries > 20, proved.detail


def test_maintenance_that_is_under_way_during_an_upgrade_still_ends_by_itself(old: Place) -> None:
    held = "id, model, verb, requested_by, created_at, state, held_at"
    values = f"'c-1', 'plant-model', 'up', 'alice', '{NOW}', 'running', '{NOW}'"
    old.execute(f"INSERT INTO shape_changes ({held}) VALUES ({values})", owner=True)
    upgrade(old)

    with old.opened() as records:
        change = records.get(Maintenance, "c-1")
        assert (change.state, change.begun) == (RunState.RUNNING, None)
        assert left_s(change, NOW) == LIMIT_S


def test_ids_of_an_old_installation_go_on(old: Place) -> None:
    upgrade(old)

    with old.opened() as records, records.write() as transaction:
        for kind in (Evaluation, Promotion, Approval, ReleaseRecord):
            there = records.find(kind)
            assert transaction.new_id(kind) == f"{NAMES[kind][1]}-{len(there) + 1}"


def test_opening_the_tables_of_an_older_slipway_changes_nothing_and_is_refused_with_both_versions(old: Place) -> None:
    with pytest.raises(OlderTables, match=f"has slipway schema 2, this Slipway needs .* {SCHEMA_VERSION}") as refused:
        old.open()

    assert "make up" in refused.value.next
    assert number_of(old) == 2


def test_an_id_that_an_older_process_gave_while_the_tables_were_upgraded_is_not_given_again(old: Place) -> None:
    upgrade(old)
    old.execute("INSERT INTO rollbacks (id) VALUES ('b-1'), ('b-2')", owner=True)

    with old.opened() as records:
        for expected in ("b-3", "b-4"):
            with records.write() as transaction:
                assert transaction.new_id(Rollback) == expected
                transaction.add(Rollback(expected, "toy-model", Environment.PRODUCTION, "alice", NOW))


def test_upgrading_again_changes_nothing(old: Place) -> None:
    upgrade(old)
    with old.opened() as records:
        before = [list(records.find(kind)) for kind in Record.__args__]

    upgrade(old)

    with old.opened() as records:
        assert [list(records.find(kind)) for kind in Record.__args__] == before


@pytest.mark.parametrize("number", [0, 1])
def test_what_an_even_older_slipway_lacks_is_made(old: Place, number: int) -> None:
    sqlite = old.url.startswith("sqlite")
    told = f"PRAGMA user_version = {number}" if sqlite else f"COMMENT ON TABLE audit_log IS 'slipway schema {number}'"
    columns = [f"ALTER TABLE executors DROP COLUMN {name}" for name in ("host", "left_at")]
    old.execute(*columns, "DROP TABLE observations", told, owner=True)

    upgrade(old)

    with old.opened() as records:
        assert len(records.find(PinnedVersion)) == 2
        (leader,) = records.find(LeaderLease)
        assert leader.host is None
        add(records, Observation("toy-model/staging", None, None, [], None, NOW))
    assert number_of(old) == SCHEMA_VERSION


def test_an_upgrade_that_is_cut_off_has_changed_nothing_and_is_begun_again(
    old: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = """
        import os, signal, sys
        from pipelines.adapters.database import dialects
        from pipelines.adapters.database.records import prepare_records, upgrade_file

        migrate = dialects.migrate

        def cut_off(*arguments):
            migrate(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        dialects.migrate = cut_off
        url, owner = sys.argv[1:]
        if url.startswith("postgresql"):
            prepare_records(owner, "slipway")
        upgrade_file(url)
    """
    command = [sys.executable, "-c", textwrap.dedent(begin), old.url, old.owner_url]
    assert subprocess.run(command, cwd=ROOT, check=False, timeout=60).returncode == -9
    assert number_of(old) == 2
    assert old.execute("SELECT count(*) FROM progress", owner=True) > [(0,)]

    upgrade(old)

    assert number_of(old) == SCHEMA_VERSION


def test_several_that_start_at_once_upgrade_once(old: Place) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: upgrade(old), range(4)))

    with old.opened() as records:
        assert len(records.find(Promotion, state=RunState.WAITING)) == 1
    assert number_of(old) == SCHEMA_VERSION


def test_a_newer_revision_is_refused_with_both_versions_even_where_an_older_slipway_has_stamped_its_own(
    bare: Place,
) -> None:
    upgrade(bare)
    sqlite = bare.url.startswith("sqlite")
    stamped = "PRAGMA user_version = 2" if sqlite else "COMMENT ON TABLE audit_log IS 'slipway schema 2'"
    bare.execute(f"UPDATE alembic_version SET version_num = '{SCHEMA_VERSION + 1:04}'", stamped, owner=True)

    with pytest.raises(UsageError, match=f"has slipway schema {SCHEMA_VERSION + 1}, .* schema {SCHEMA_VERSION}"):
        upgrade(bare)

    assert number_of(bare) == 2


def test_an_id_is_not_given_again_after_its_record_was_deleted(place: Place, records: SqlRecords) -> None:
    add(records, promotion("p-1"), promotion("p-7"))
    place.execute("DELETE FROM promotions WHERE id = 'p-7'", owner=True)

    with records.write() as transaction:
        assert transaction.new_id(Promotion) == "p-8"


@pytest.mark.parametrize(
    "looked_up", [("promotions", "state"), ("releases", "change_id"), ("approvals", "promotion_id")], ids=str
)
def test_what_is_looked_up_is_found_by_an_index(place: Place, records: SqlRecords, looked_up: tuple[str, str]) -> None:
    table, column = looked_up
    query = f"SELECT * FROM {table} WHERE {column} = 'x'"
    if place.url.startswith("sqlite"):
        plan = place.execute(f"EXPLAIN QUERY PLAN {query}")
    else:
        plan = place.execute("SET enable_seqscan = off", f"EXPLAIN {query}")

    assert f"ix_{table}_{column}" in str(plan)


def test_the_audit_chain_is_read_in_pages(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.adapters.database.records.AUDIT_PAGE", 3)
    with place.opened() as records:
        with records.write() as transaction:
            for number in range(1, 8):
                transaction.audit("alice", "test", "intent", subject=str(number))

        assert [entry.seq for entry in records.audit_trail()] == list(range(1, 8))
        assert [entry.seq for entry in records.newest_audit(2)] == [6, 7]
        trail = records.audit_trail()
        next(trail)
        with records.write() as transaction:
            transaction.audit("alice", "test", "intent", subject="meanwhile")
        assert [entry.subject for entry in trail][-1] == "meanwhile"
