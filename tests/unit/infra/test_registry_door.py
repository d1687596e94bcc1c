"""The door of the model registry: guesses cost a bounded work, keep nobody out who is known, and bodies are bounded."""

import base64
import importlib
import threading
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from pipelines.settings.settings import ROOT

PLUGIN = ROOT / "infra" / "images" / "mlflow" / "plugin"
RIGHT = ("trainer", "right")


class Desk:
    """A door before an app that lets everybody in; comparisons wait until `go` is set."""

    def __init__(self, module: Any) -> None:
        self.most_strangers: int = module.MOST_STRANGERS
        self.cache: set[tuple[str, str]] = set()
        self.go = threading.Event()
        self.go.set()
        self.compared: list[tuple[str, str]] = []
        self.seen: list[list[tuple[bytes, bytes]]] = []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()
        self.most_body_bytes: int = module.MOST_BODY_BYTES
        self._door = module.Door(
            self._app,
            is_file=lambda scope: scope["path"] == "/file",
            remembered=lambda *login: login in self.cache,
            compare=self._compare,
        )

    def _compare(self, user: str, password: str) -> bool:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.compared.append((user, password))
        assert self.go.wait(20)
        with self._lock:
            self.at_once -= 1
        if (user, password) == RIGHT:
            self.cache.add(RIGHT)
        return (user, password) == RIGHT

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask(
        self, *headers: tuple[bytes, bytes], path: str = "/", into: list[int] | None = None
    ) -> tuple[int, dict[bytes, bytes]]:
        """Send the head of a request; return status and headers."""
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await self._door({"type": "http", "path": path, "headers": list(headers)}, None, send)
        if into is not None:
            into.append(sent[0]["status"])
        return sent[0]["status"], dict(sent[0]["headers"])

    async def crowd(self, group: TaskGroup, into: list[int]) -> None:
        """Send 40 wrong passwords more than may wait, and return once those have been sent away."""
        for number in range(self.most_strangers + 40):
            group.start_soon(lambda number=number: self.ask(login("trainer", f"guess-{number}"), into=into))
        with anyio.fail_after(20):
            while len(into) < 40:
                await anyio.sleep(0.001)


def login(user: str, password: str) -> tuple[bytes, bytes]:
    return b"authorization", b"Basic " + base64.b64encode(f"{user}:{password}".encode())


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.syspath_prepend(str(PLUGIN))
    return Desk(importlib.import_module("slipway_mlflow_door"))


def test_a_guess_without_a_body_never_reaches_the_app(desk: Desk) -> None:
    assert anyio.run(desk.ask, login("trainer", "guess"))[0] == 401
    assert desk.compared == [("trainer", "guess")]
    assert desk.seen == []


def test_who_sends_no_login_and_no_body_is_answered_by_the_app_without_a_comparison(desk: Desk) -> None:
    assert anyio.run(desk.ask)[0] == 200
    assert anyio.run(desk.ask, (b"content-length", b"5"))[0] == 401
    assert desk.compared == []


def test_who_is_remembered_is_not_compared_again(desk: Desk) -> None:
    assert [anyio.run(desk.ask, login(*RIGHT))[0] for _ in range(3)] == [200, 200, 200]
    assert desk.compared == [RIGHT]


@pytest.mark.parametrize(
    "headers",
    [
        [login(*RIGHT), login("admin", "guess")],
        [(b"authorization", b"Bearer " + login(*RIGHT)[1].partition(b" ")[2])],
        [(b"authorization", b"Basic\t" + login(*RIGHT)[1].partition(b" ")[2])],
        [(b"authorization", b"Basic !" + login(*RIGHT)[1].partition(b" ")[2])],
        [(b"authorization", b"Basic")],
        [(b"authorization", b"Basic /w==")],
    ],
)
def test_a_login_that_could_be_read_in_two_ways_is_none(desk: Desk, headers: list[tuple[bytes, bytes]]) -> None:
    desk.cache.add(RIGHT)
    assert anyio.run(desk.ask, *headers)[0] == 401
    assert (desk.compared, desk.seen) == ([], [])


def test_the_other_header_with_a_login_is_not_passed_on(desk: Desk) -> None:
    assert anyio.run(desk.ask, (b"x-mlflow-authorization", login("admin", "guess")[1]))[0] == 200
    assert desk.seen == [[]]


def test_of_many_guesses_one_is_compared_some_wait_and_the_others_are_sent_away(desk: Desk) -> None:
    told: list[int] = []

    async def attack() -> None:
        desk.go.clear()
        async with anyio.create_task_group() as group:
            await desk.crowd(group, told)
            status, headers = await desk.ask(login("trainer", "one more"))
            assert (status, headers[b"retry-after"]) == (429, b"1")
            desk.go.set()

    anyio.run(attack)
    assert desk.most_at_once == 1
    assert (told.count(429), told.count(401)) == (40, desk.most_strangers)


def test_guesses_keep_nobody_out_who_was_known_before(desk: Desk) -> None:
    told: list[int] = []

    async def attack() -> None:
        assert (await desk.ask(login(*RIGHT)))[0] == 200
        # As MLflow forgets after a time.
        desk.cache.clear()
        desk.go.clear()
        async with anyio.create_task_group() as group:
            await desk.crowd(group, told)
            returned: list[int] = []
            for _ in range(5):
                group.start_soon(lambda: desk.ask(login(*RIGHT), into=returned))
            with anyio.fail_after(20):
                while desk.compared.count(RIGHT) < 2:
                    await anyio.sleep(0.001)
            desk.go.set()
        assert returned == [200] * 5

    anyio.run(attack)
    assert desk.compared.count(RIGHT) == 2, "the others found what the first had brought"
    assert desk.most_at_once == 2


def test_a_body_that_would_be_kept_in_memory_is_bounded_by_its_head(desk: Desk) -> None:
    def told(*headers: tuple[bytes, bytes], path: str = "/") -> int:
        async def ask() -> int:
            return (await desk.ask(login(*RIGHT), *headers, path=path))[0]

        return anyio.run(ask)

    most, more = (str(desk.most_body_bytes + each).encode() for each in (0, 1))
    assert told((b"content-length", most)) == 200
    assert told((b"content-length", more)) == 413
    assert told((b"content-length", b"9" * 5000)) == 413
    assert told((b"content-length", b"-1")) == 411
    assert told((b"content-length", b"5"), (b"content-length", b"5")) == 411
    assert told((b"transfer-encoding", b"chunked")) == 411
    assert told((b"content-length", b"5"), (b"transfer-encoding", b"chunked")) == 411
    assert len(desk.seen) == 1
    assert told((b"content-length", more), path="/file") == 200
    assert told((b"transfer-encoding", b"chunked"), path="/file") == 200
