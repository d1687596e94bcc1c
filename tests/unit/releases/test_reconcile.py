"""What is seen serving is stored when it is new, or old: also after the clock was set."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.domain.records import Observation
from pipelines.domain.release import Environment
from pipelines.releases.reconcile import STORED_S, observe_environment
from tests.support.servers.databases import sqlite_records
from tests.support.world.executors import executor
from tests.support.world.fakes import FakeCheckpoints
from tests.support.world.records import MODEL


@pytest.mark.parametrize(("later_s", "stored"), [(STORED_S / 2, False), (STORED_S, True), (-600.0, True)])
def test_a_look_that_says_the_same_is_stored_anew_when_it_is_old_or_of_the_future(
    tmp_path: Path, later_s: float, stored: bool
) -> None:
    moments = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds) for seconds in (0.0, later_s)]
    records = sqlite_records(tmp_path, FakeCheckpoints())
    for moment in moments:
        looking = executor(records, "x1", lambda moment=moment: moment.isoformat(timespec="milliseconds"))
        observe_environment(looking, MODEL, Environment.PRODUCTION)
    (seen,) = records.find(Observation)
    assert seen.at == moments[stored].isoformat(timespec="milliseconds")
    records.close()
