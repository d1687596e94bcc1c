"""The feed of an API process: it wakes streams, listens anew after a failure, and ends streams when it is told to."""

import asyncio
from pathlib import Path

import pytest

from pipelines.adapters.database.records import SqlRecords
from pipelines.api.feed import EventFeed
from pipelines.domain.events import EventKind
from pipelines.ports import Listener
from tests.support.servers.databases import sqlite_records
from tests.support.world.fakes import FakeCheckpoints


class FirstRefused(SqlRecords):
    """A database that has no listener to give at first."""

    refused = 0

    def listen(self) -> Listener:
        if not self.refused:
            self.refused += 1
            raise OSError("no descriptor is left")
        return super().listen()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_stream_is_woken_after_the_listener_of_one_before_it_has_failed(tmp_path: Path) -> None:
    records = FirstRefused(f"sqlite:///{tmp_path / 'slipway.db'}", FakeCheckpoints())
    feed = EventFeed(records)

    async def followed() -> bool:
        with feed.joined() as lost:
            await lost.wait(0.1)
            assert not await lost.wait(0.3)
        with feed.joined() as stream:
            # The first is for what was there before, and the second for the listener that begins.
            while await stream.wait(1.0):
                continue
            with records.write() as transaction:
                transaction.emit(EventKind.PROMOTION_ASKED, subject="p-1")
            return await stream.wait(5.0)

    assert asyncio.run(followed())
    records.close()


def test_streams_that_are_told_to_end_do_not_wait_any_more(tmp_path: Path) -> None:
    records = sqlite_records(tmp_path, FakeCheckpoints())
    feed = EventFeed(records)

    async def ended() -> bool:
        with feed.joined() as stream:
            while await stream.wait(0.5):
                continue
            feed.end()
            return await stream.wait(5.0)

    assert asyncio.run(ended()) and feed.ended
    records.close()
