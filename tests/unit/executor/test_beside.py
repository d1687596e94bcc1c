"""What the executor looks after beside all work: nothing that fails ends the loop, and all is told once."""

import logging
import threading
from typing import Any, cast

import pytest

from pipelines.errors import LostLease
from pipelines.executor import beside
from pipelines.executor.beside import look_after
from pipelines.releases.services import Services

log = logging.getLogger("slipway.tests.beside")


class Eye:
    """Counts how often it looks, and stops the loop at the third time."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop, self.looks = stop, 0

    def look(self) -> None:
        self.looks += 1
        if self.looks == 3:
            self.stop.set()


def looked_after(monkeypatch: pytest.MonkeyPatch, models: list[Any], confirmed: list[Exception | None]) -> Eye:
    """Have one model looked after; the first answers are those given, which may be failures."""

    class Asked:
        def models(self) -> list[str]:
            found = models.pop(0) if models else ["m"]
            if isinstance(found, Exception):
                raise found
            return cast(list[str], found)

    def confirm(_: object) -> None:
        failure = confirmed.pop(0) if confirmed else None
        if failure:
            raise failure

    monkeypatch.setattr(beside, "LOOK_S", 0.001)
    monkeypatch.setattr(beside, "confirm_leader", confirm)
    stop = threading.Event()
    eye = Eye(stop)
    look_after(cast(Services, Asked()), stop, lambda *_: eye, log, "look")
    return eye


def test_no_failure_but_a_lost_lease_ends_the_loop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [MemoryError("no room"), MemoryError("no room"), RuntimeError("a bug")]

    assert looked_after(monkeypatch, failures, []).looks == 3
    assert [record.getMessage() for record in caplog.records] == [
        "can't look of any model: no room",
        "can't look of any model: a bug",
    ]


def test_who_is_no_executor_any_more_looks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = LostLease("lost lease", next="nothing to do")

    assert looked_after(monkeypatch, [], [None, lost]).looks == 1
