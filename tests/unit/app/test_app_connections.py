"""Who is given up where there are too many connections."""

from typing import Any

import pytest

from app.connections import Connections, Stage, Watch
from app.errors import RequestError


class Idle:
    """A connection on which nobody has asked for anything yet."""

    stage = Stage.FIRST_REQUEST
    received_bytes = 0
    cycle = None
    watch: Watch

    def __init__(self, held: "Connections") -> None:
        self.transport = self
        self._held = held
        held.connections.add(self)  # type: ignore[arg-type]  # uvicorn's own are more
        held.admit(self)

    def abort(self) -> None:
        self._held.connections.discard(self)  # type: ignore[arg-type]

    def refuse(self, error: RequestError) -> None:
        raise AssertionError(error)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Connections:
    monkeypatch.setattr("app.connections.MOST", 100)
    monkeypatch.setattr("app.connections._raised_file_limit", lambda: 10_000)
    return Connections()


def living(held: Connections) -> set[Any]:
    return set(held.connections)


def test_the_bound_holds_also_against_who_closes_and_opens_again(held: Connections) -> None:
    first = [Idle(held) for _ in range(101)]
    assert len(living(held)) == 100
    for connection in first:
        connection.abort()
    again = [Idle(held) for _ in range(250)]
    # Once all that were there have ended, one newcomer may be let in before the others are looked at.
    assert len(living(held)) <= 101
    assert again[-1] in living(held)


def test_who_has_waited_for_longest_goes(held: Connections) -> None:
    old = [Idle(held) for _ in range(60)]
    for connection in old:
        connection.watch.sweeps = 5
    young = [Idle(held) for _ in range(50)]
    assert [connection in living(held) for connection in old] == [False] * 10 + [True] * 50
    assert set(young) <= living(held)


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.SERVICE])
def test_whoever_lets_the_service_wait_makes_room(
    held: Connections, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Idle, "stage", stage)
    newest = [Idle(held) for _ in range(200)][-1]
    assert (len(living(held)), newest in living(held)) == (100, True)


def test_who_waits_for_the_service_keeps_what_was_promised(held: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Idle, "stage", Stage.SERVICE)
    waiting = [Idle(held) for _ in range(200)]
    assert living(held) == set(waiting[:150])
