"""What only a database server can do right or wrong: roles, restarts, lost answers, a full disk."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from pipelines.adapters.database.dialects import WAIT_S, PostgresDialect
from pipelines.adapters.database.records import SqlRecords, prepare_records
from pipelines.adapters.database.tables import SCHEMA_VERSION
from pipelines.domain.audit import verify
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Promotion
from pipelines.errors import DatabaseUnavailable, OlderTables, UsageError
from pipelines.wiring.processes import await_tables
from tests.support.servers.cutting_proxy import Cut, CuttingProxy, cutting_proxy
from tests.support.servers.databases import APPLICATION, OWNER, Place, bare_place, postgres_place
from tests.support.servers.postgres import PostgresServer, running_postgres
from tests.support.servers.postgres_admin import PostgresAdmin
from tests.support.world.fakes import FakeCheckpoints
from tests.support.world.records import add, promotion

FORBIDDEN = [
    "UPDATE audit_log SET actor = 'mallory'",
    "DELETE FROM audit_log",
    "TRUNCATE audit_log",
    "INSERT INTO audit_log SELECT * FROM audit_log ON CONFLICT (seq) DO UPDATE SET actor = 'mallory'",
    "ALTER TABLE audit_log DISABLE TRIGGER ALL",
    "DROP TRIGGER audit_log_no_change ON audit_log",
    "DROP TABLE audit_log",
    "CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE sql AS 'SELECT 1'",
    "SET session_replication_role = replica",
    f"SET ROLE {OWNER}",
    "COMMENT ON TABLE audit_log IS 'slipway schema 9'",
    "DELETE FROM promotions",
    "TRUNCATE promotions",
    "CREATE TABLE public.mine (id int)",
    "CREATE ROLE mallory",
]


@pytest.fixture
def place(postgres: PostgresServer, tmp_path: Path) -> Place:
    return postgres_place(postgres, tmp_path)


@pytest.fixture
def records(place: Place) -> Iterator[SqlRecords]:
    with place.opened() as opened:
        yield opened


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[CuttingProxy]:
    with cutting_proxy(postgres.port) as running:
        yield running


@pytest.fixture
def distant(postgres: PostgresServer, tmp_path: Path, proxy: CuttingProxy) -> Iterator[SqlRecords]:
    """Records behind a connection that the test can cut."""
    with postgres_place(postgres, tmp_path, port=proxy.port).opened() as opened:
        yield opened


def audit(records: SqlRecords, subject: str) -> None:
    with records.write() as transaction:
        transaction.audit("alice", "test", "intent", subject=subject)


def subjects(records: SqlRecords) -> list[str]:
    return [entry.subject for entry in records.audit_trail()]


@pytest.mark.parametrize("statement", FORBIDDEN)
def test_the_applications_role_is_refused(records: SqlRecords, place: Place, statement: str) -> None:
    audit(records, "one")

    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"permission denied|must be owner"):
        place.execute(statement)

    assert subjects(records) == ["one"]


def test_a_temporary_table_does_not_hide_the_end_of_the_log(records: SqlRecords, place: Place) -> None:
    audit(records, "one")
    entry = "SELECT 7, at, actor, action, phase, subject, detail, prev_hash, hash FROM public.audit_log"

    with pytest.raises(psycopg.Error, match="append-only"):
        place.execute(
            "CREATE TEMP TABLE audit_log (seq int)",
            "INSERT INTO pg_temp.audit_log VALUES (6)",
            f"INSERT INTO public.audit_log {entry}",
            owner=True,
        )

    assert subjects(records) == ["one"]


@pytest.mark.parametrize("role", [OWNER, "postgres"])
def test_a_role_that_may_change_the_audit_log_is_not_worked_with(
    place: Place, postgres: PostgresServer, role: str
) -> None:
    url = sa.make_url(place.url).set(username=role).render_as_string(hide_password=False)

    with pytest.raises(UsageError, match=f"'{role}' may change the audit log"):
        SqlRecords(url, FakeCheckpoints())


def test_a_database_without_tables_asks_to_be_prepared(postgres: PostgresServer, tmp_path: Path) -> None:
    place = bare_place(postgres, tmp_path)

    with pytest.raises(UsageError) as refused:
        place.open()

    assert isinstance(refused.value, OlderTables)
    assert "no tables" in refused.value.message
    assert "make up" in refused.value.next


def test_older_tables_are_waited_for_until_their_owner_has_brought_them_up_to_date(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.execute("COMMENT ON TABLE audit_log IS 'slipway schema 3'", owner=True)
    with pytest.raises(OlderTables, match=f"has slipway schema 3, this Slipway needs slipway schema {SCHEMA_VERSION}"):
        await_tables(place.open, patience_s=0.2, poll_s=0.05)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(await_tables, place.open, poll_s=0.05)
        while len(caplog.messages) < 2:
            assert not waiting.done()
        prepare_records(place.owner_url, APPLICATION)
        waiting.result(timeout=30).close()
    assert "slipway schema 3" in caplog.messages[1] and "waiting up to 120 s" in caplog.messages[1]


def test_tables_of_a_newer_slipway_are_refused_at_once_and_left_as_they_are(place: Place) -> None:
    newer = f"slipway schema {SCHEMA_VERSION + 1}"
    place.execute(f"COMMENT ON TABLE audit_log IS '{newer}'", owner=True)

    for open_them in (lambda: await_tables(place.open), lambda: prepare_records(place.owner_url, APPLICATION)):
        with pytest.raises(UsageError, match=f"has {newer}, this Slipway needs slipway schema {SCHEMA_VERSION}") as no:
            open_them()
        assert not isinstance(no.value, OlderTables)
    assert place.execute("SELECT obj_description('audit_log'::regclass, 'pg_class')") == [(newer,)]


def test_preparing_again_keeps_what_is_there_and_takes_back_rights_given_by_hand(
    records: SqlRecords, place: Place
) -> None:
    add(records, promotion())
    audit(records, "one")
    place.execute(f"GRANT ALL ON audit_log TO {APPLICATION}", owner=True)

    prepare_records(place.owner_url, APPLICATION)

    with place.opened() as again:
        assert again.find(Promotion) == [promotion()]
        assert subjects(again) == ["one"]
        audit(again, "two")
        add(again, promotion("p-2"))
    assert subjects(records) == ["one", "two"]


def test_preparing_from_several_places_at_once_is_preparing_once(postgres: PostgresServer, tmp_path: Path) -> None:
    place = bare_place(postgres, tmp_path)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: prepare_records(place.owner_url, APPLICATION), range(4)))

    with place.opened() as records:
        assert list(records.audit_trail()) == []


def test_only_its_roles_may_connect_to_a_database(place: Place, postgres: PostgresServer) -> None:
    PostgresAdmin(postgres.url()).ensure_role("stranger", postgres.password)
    url = sa.make_url(place.url).set(username="stranger").render_as_string(hide_password=False)

    with pytest.raises(DatabaseUnavailable, match="permission denied for database"):
        SqlRecords(url, FakeCheckpoints())


def test_a_changed_password_holds_and_the_old_one_is_refused(postgres: PostgresServer) -> None:
    admin = PostgresAdmin(postgres.url())
    admin.ensure_role("rotated", "first-canary-1f2e")
    admin.ensure_role("rotated", "second-canary-3d4c")

    def connect(password: str) -> None:
        psycopg.connect(postgres.url("postgres", "rotated", password).replace("+psycopg", "")).close()

    connect("second-canary-3d4c")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect("first-canary-1f2e")
    assert "ALTER ROLE" in postgres.logs()
    assert "canary" not in postgres.logs()


def test_a_server_that_restarts_between_two_writes_is_not_noticed(
    records: SqlRecords, postgres: PostgresServer, place: Place
) -> None:
    audit(records, "before")

    with postgres.away():
        pass

    audit(records, "after")
    assert subjects(records) == ["before", "after"]
    assert verify(records.audit_trail(), place.checkpoints.checkpoints()).valid


def test_a_server_that_is_down_refuses_changes_until_it_is_back(records: SqlRecords, postgres: PostgresServer) -> None:
    audit(records, "before")

    with postgres.away(), pytest.raises(DatabaseUnavailable) as refused:
        audit(records, "while it is down")

    assert "nothing was changed" in refused.value.next
    audit(records, "after")
    assert subjects(records) == ["before", "after"]


def test_a_server_that_crashes_keeps_what_it_acknowledged(records: SqlRecords, postgres: PostgresServer) -> None:
    audit(records, "before")

    with pytest.raises(DatabaseUnavailable), records.write() as transaction:
        transaction.audit("alice", "test", "intent", subject="cut off")
        with postgres.away(signal.SIGQUIT):
            pass

    audit(records, "after")
    assert subjects(records) == ["before", "after"]


def test_a_server_that_is_not_there_is_said_to_be_unavailable_soon(postgres: PostgresServer, place: Place) -> None:
    with cutting_proxy(postgres.port) as gone:
        port = gone.port
    began = time.monotonic()

    with pytest.raises(DatabaseUnavailable, match="refused"):
        SqlRecords(place.url.replace(f":{postgres.port}/", f":{port}/"), FakeCheckpoints())

    assert time.monotonic() - began < 5


def test_a_commit_whose_answer_was_lost_is_found_and_not_repeated(distant: SqlRecords, proxy: CuttingProxy) -> None:
    audit(distant, "before")

    proxy.cut = Cut.AFTER_COMMIT
    with distant.write() as transaction:
        transaction.add(promotion())
        transaction.audit("alice", "test", "intent", subject="answer lost")
    proxy.cut = Cut.NOT

    assert proxy.cuts == 1
    assert subjects(distant) == ["before", "answer lost"]
    assert distant.find(Promotion) == [promotion()]


def test_a_commit_that_never_arrived_is_said_not_to_have_been_made(distant: SqlRecords, proxy: CuttingProxy) -> None:
    audit(distant, "before")

    proxy.cut = Cut.BEFORE_COMMIT
    with pytest.raises(DatabaseUnavailable) as refused:
        audit(distant, "never arrived")
    proxy.cut = Cut.NOT

    assert proxy.cuts == 1
    assert "nothing was changed" in refused.value.next
    assert subjects(distant) == ["before"]


def test_a_commit_that_nobody_can_be_asked_about_is_called_unknown(
    distant: SqlRecords, proxy: CuttingProxy, tmp_path: Path
) -> None:
    audit(distant, "before")

    proxy.cut, proxy.closed = Cut.AFTER_COMMIT, True
    with pytest.raises(DatabaseUnavailable) as refused:
        audit(distant, "unknown")
    proxy.cut, proxy.closed = Cut.NOT, False

    assert "not known" in refused.value.message
    assert "nothing was changed" not in refused.value.next
    audit(distant, "after")
    assert subjects(distant) == ["before", "unknown", "after"]


def test_a_writer_that_stands_still_is_cut_off_and_the_next_one_goes_on(records: SqlRecords, place: Place) -> None:
    standing, cut_off = threading.Event(), threading.Event()

    def stand_still() -> None:
        with place.opened() as frozen, frozen.write() as transaction:
            transaction.change(promotion(), state=RunState.DONE)
            transaction.audit("zombie", "test", "intent", subject="zombie")
            standing.set()
            assert cut_off.wait(4 * WAIT_S)

    add(records, promotion())
    with ThreadPoolExecutor(1) as pool:
        zombie = pool.submit(stand_still)
        assert standing.wait(10)
        # The next one comes a moment later, and so is still waiting when the first is cut off.
        time.sleep(1)
        audit(records, "next")
        cut_off.set()
        with pytest.raises(DatabaseUnavailable):
            zombie.result(timeout=WAIT_S)

    assert subjects(records) == ["next"]
    assert records.find(Promotion) == [promotion()]


def test_a_full_disk_refuses_changes_and_room_brings_them_back(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with running_postgres(request, small=True) as server:
        admin = server.url().replace("+psycopg", "")
        place = bare_place(server, tmp_path)
        name = sa.make_url(place.url).database
        with psycopg.connect(admin, autocommit=True) as superuser:
            superuser.execute(f"CREATE TABLESPACE small LOCATION '{server.small_directory}'".encode())
            superuser.execute(f"ALTER DATABASE {name} SET TABLESPACE small".encode())
            prepare_records(place.owner_url, APPLICATION)
            with place.opened() as records:
                audit(records, "before")
                fill_disk(superuser)

                with pytest.raises(DatabaseUnavailable, match="No space left on device") as refused:
                    write_much(records)
                assert "disk" in refused.value.next
                assert records.find(Promotion) == []

                superuser.execute("DROP TABLE filler")
                write_much(records)
                audit(records, "after")
                assert verify(records.audit_trail(), place.checkpoints.checkpoints()).valid


def fill_disk(superuser: "psycopg.Connection[tuple[object, ...]]") -> None:
    superuser.execute("CREATE TABLE filler (text text) TABLESPACE small")
    filling = "INSERT INTO filler SELECT repeat(md5(random()::text), 60) FROM generate_series(1, %s)"
    for rows in (1024, 64, 1):
        with pytest.raises(psycopg.errors.DiskFull):
            for _ in range(100):
                superuser.execute(filling, [rows])


def write_much(records: SqlRecords) -> None:
    with records.write() as transaction:
        for number in range(1, 200):
            transaction.add(promotion(f"p-{number}"))


def test_the_engine_of_a_plain_url_speaks_with_the_driver_that_is_installed() -> None:
    engine = PostgresDialect().engine(sa.make_url("postgresql://nobody@127.0.0.1/slipway"))

    assert engine.dialect.driver == "psycopg"
