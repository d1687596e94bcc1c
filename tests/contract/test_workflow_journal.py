"""The workflow engine's journal, on SQLite and on a real PostgreSQL: a killed workflow goes on where it stopped."""

import json
import secrets
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.servers.postgres_admin import PostgresAdmin

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = """
    import os
    import signal
    import sys
    import time
    from pathlib import Path

    from pipelines.adapters.workflows.dbos import DbosEngine

    url, output, crash = sys.argv[1:]

    def note(line):
        with Path(output).open("a") as file:
            file.write(line + "\\n")

    def action(name, number):
        note(f"{name} {number}")
        if name == crash:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"number": number + 1}

    def count(work_id, step):
        number = 1
        for name in ("first", "second", "third"):
            number = step(name, lambda: action(name, number))["number"]
        note(f"done {number}")

    engine = DbosEngine(url)
    engine.register("count", count)
    engine.launch()
    for _ in range(2):
        engine.start("count", "w-1")
    while engine.works_on("w-1"):
        time.sleep(0.05)
    engine.close()
"""


@pytest.fixture(params=["sqlite", "postgres"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'workflows.db'}"
    server = request.getfixturevalue("postgres")
    name, password = f"workflows_{secrets.token_hex(4)}", secrets.token_hex(16)
    admin = PostgresAdmin(server.url())
    admin.ensure_role(name, password)
    admin.ensure_database(name, name)
    return str(server.url(name, name, password))


def run(journal: str, output: Path, crash: str = "") -> int:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), journal, str(output), crash]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    assert (sa.make_url(journal).password or "no password") not in done.stdout + done.stderr
    return done.returncode


def test_a_killed_workflow_goes_on_without_repeating_what_has_ended(journal: str, tmp_path: Path) -> None:
    output = tmp_path / "steps"

    assert run(journal, output, crash="second") == -signal.SIGKILL
    assert run(journal, output) == 0

    assert output.read_text().split("\n")[:-1] == ["first 1", "second 2", "second 2", "third 3", "done 4"]


VERSIONED = """
    import sys
    from pipelines.adapters.workflows import dbos
    from pipelines.errors import SlipwayError

    url, version, crash = sys.argv[1:]
    dbos.WORKFLOW_VERSION = version

    def work(work_id, step):
        step("first", lambda: print(work_id, version, flush=True))
        if crash:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)

    engine = dbos.DbosEngine(url)
    engine.register("work", work)
    try:
        engine.launch()
    except SlipwayError as error:
        print(type(error).__name__, error.message, flush=True)
        sys.exit(error.exit_code)
    print("works on w-1:", engine.works_on("w-1"), flush=True)
    engine.start("work", f"w-{version}")
    while engine.works_on(f"w-{version}"):
        pass
    engine.close()
"""


def test_work_that_other_code_began_is_not_gone_on_with_and_that_of_newer_code_is_refused(tmp_path: Path) -> None:
    def begun(version: str, crash: str = "") -> tuple[int, list[str]]:
        command = [sys.executable, "-c", textwrap.dedent(VERSIONED), f"sqlite:///{tmp_path / 'workflows.db'}"]
        done = subprocess.run(
            [*command, version, crash], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
        )
        return done.returncode, done.stdout.splitlines()

    assert begun("1", crash="yes") == (-signal.SIGKILL, ["works on w-1: False", "w-1 1"])
    older = "w-1 was begun by workflow version 1, this Slipway has version 0"
    assert begun("0") == (2, [f"UsageError {older}"])
    assert begun("2") == (0, ["works on w-1: False", "w-2 2"])


def test_a_journal_that_somebody_reads_for_ever_can_be_written(tmp_path: Path) -> None:
    file, output = tmp_path / "workflows.db", tmp_path / "steps"
    assert run(f"sqlite:///{file}", output) == 0
    reader = sqlite3.connect(file, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM workflow_status").fetchone() == (1,)

    with sqlite3.connect(file, timeout=0.0) as writer:
        writer.execute("UPDATE workflow_status SET executor_id = 'another'")
        writer.commit()

    reader.close()


def test_nothing_in_the_journal_is_pickled(journal: str, tmp_path: Path) -> None:
    assert run(journal, tmp_path / "steps") == 0

    schema = "" if journal.startswith("sqlite") else "dbos."
    engine = sa.create_engine(journal)
    with engine.connect() as connection:
        rows = connection.execute(sa.text(f"SELECT output, serialization FROM {schema}operation_outputs")).all()
    engine.dispose()
    assert [json.loads(output)["answer"]["number"] for output, _ in rows] == [2, 3, 4]
    assert {name for _, name in rows} == {"slipway_json"}


REFUSING = """
    import errno
    import sys
    from pipelines.adapters.workflows.dbos import DbosEngine
    from pipelines.errors import Rejected, SlipwayError

    def refuse():
        raise Rejected("bob says no", next="ask again")

    def fail():
        raise ValueError("a bug")

    def fill():
        raise OSError(errno.ENOSPC, "no space", "bundle")

    def work(work_id, step):
        for action in (refuse, fail, fill):
            try:
                step(action.__name__, action)
            except SlipwayError as error:
                print(type(error).__name__, error.message, error.next, flush=True)
        print("ended", flush=True)

    engine = DbosEngine(sys.argv[1])
    engine.register("work", work)
    engine.launch()
    assert not engine.works_on("w-1")
    engine.start("work", "w-1")
    while engine.works_on("w-1"):
        pass
    engine.close()
"""


def test_a_refusal_and_a_full_disk_are_journalled_as_what_they_are_and_a_bug_as_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(REFUSING), f"sqlite:///{tmp_path / 'workflows.db'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == [
        "Rejected bob says no ask again",
        "SlipwayError ValueError in step 'fail': a bug report it with the executor's log",
        "Undecided can't write: [Errno 28] no space: 'bundle' make room on the disk, then do it again",
        "ended",
    ]
