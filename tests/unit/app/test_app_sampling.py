"""What a replica keeps of its requests: a bounded sample that is read once, by the executor alone."""

import asyncio
import json
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app import main
from app.logs import EventLog
from app.main import Service
from app.model.sampling import CLASS_BYTES, RING_BYTES, Plan, Pull, SampledRequests
from app.settings import Settings
from tests.support.world.bundles import make_bundle, valid_row
from tests.support.world.typed_bundles import ROW, make_typed_bundle

VERSION = "6"


class Asked:
    """The service, asked in its own process as from a socket."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def __call__(
        self,
        path: str,
        body: Any,
        *,
        private: bool = True,
        raw_path: bytes | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> tuple[int, Any]:
        sent: list[MutableMapping[str, Any]] = []
        bodies = [json.dumps(body).encode()]

        async def receive() -> MutableMapping[str, Any]:
            if bodies:
                return {"type": "http.request", "body": bodies.pop()}
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode() if raw_path is None else raw_path,
            "query_string": b"",
            "headers": [(b"content-type", b"application/json"), *headers],
            "server": ("/run/replica.sock", None) if private else ("127.0.0.1", 8000),
            "client": None,
        }
        asyncio.run(self.service(scope, receive, send))
        return sent[0]["status"], json.loads(b"".join(each.get("body", b"") for each in sent[1:]))

    def predict(self, request_id: str = "r1", **values: Any) -> Any:
        status, answer = self("/predict", valid_row() | values, headers=((b"x-request-id", request_id.encode()),))
        assert status == 200, answer
        return answer

    def pull(
        self, read: dict[str, int] | None = None, *, rate: float = 1.0, rows: int = 100, without: tuple[str, ...] = ()
    ) -> Any:
        status, told = self(
            "/requests/sampled", {"read": read or {}, "plan": {"rate": rate, "rows": rows, "without": without}}
        )
        assert status == 200, told
        return told


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return make_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def settings(bundle: tuple[Path, str]) -> dict[str, Any]:
    path, digest = bundle
    return {"bundle_dir": path, "bundle_digest": digest, "model": "toy-model", "version": VERSION}


@pytest.fixture
def asked(settings: dict[str, Any]) -> Asked:
    return Asked(Service(Settings.model_validate(settings), EventLog()))


def test_nothing_is_kept_before_somebody_asks_for_it_and_all_is_counted(asked: Asked, settings: dict[str, Any]) -> None:
    asked.predict()

    told = asked.pull()

    assert (told["seen"], told["sampled"], told["entries"]) == (1, 0, [])
    assert (told["version"], told["digest"]) == (VERSION, settings["bundle_digest"])


def test_what_was_asked_comes_with_its_answer_its_id_and_its_row(asked: Asked) -> None:
    told = asked.pull()
    answer = asked.predict("abc")

    [[seq, at, request_id, number, answered, values]] = asked.pull({told["boot"]: 0})["entries"]

    assert (seq, request_id, number) == (1, "abc", 0) and at > 0
    assert answered == {name: answer[name] for name in ("prediction", "probability")}
    assert dict(zip(told["features"], values, strict=True)) == valid_row()


def test_what_was_read_is_not_read_again(asked: Asked) -> None:
    boot = asked.pull()["boot"]
    asked.predict("one")
    asked.predict("two")
    assert [entry[2] for entry in asked.pull({boot: 0})["entries"]] == ["one", "two"]
    asked.predict("three")

    assert [entry[2] for entry in asked.pull({boot: 2})["entries"]] == ["three"]
    assert [entry[2] for entry in asked.pull()["entries"]] == ["three"]


def test_a_full_ring_gives_the_oldest_up_and_their_numbers_tell(asked: Asked) -> None:
    asked.pull(rows=2)
    for number in range(5):
        asked.predict(str(number))

    told = asked.pull(rows=2)

    assert [entry[2] for entry in told["entries"]] == ["3", "4"]
    assert (told["seen"], told["sampled"], told["entries"][0][0]) == (5, 5, 4)


def test_features_that_are_left_out_are_not_held_and_not_told(asked: Asked) -> None:
    hidden = next(iter(valid_row()))
    asked.pull(without=(hidden,))
    asked.predict()

    told = asked.pull(without=(hidden,))

    assert hidden not in told["features"]
    assert len(told["entries"][0][5]) == len(valid_row()) - 1


def test_leaving_one_more_feature_out_forgets_what_was_kept_with_it(asked: Asked) -> None:
    asked.pull()
    asked.predict()

    told = asked.pull(without=(next(iter(valid_row())),))

    assert (told["entries"], told["sampled"]) == ([], 1)


def test_switched_off_nothing_is_kept_any_more(asked: Asked) -> None:
    asked.pull()
    asked.predict()

    told = asked.pull(rate=0)
    asked.predict()

    assert (told["entries"], asked.pull(rate=0)["seen"]) == ([], 2)


def test_a_batch_is_sampled_by_its_rows(asked: Asked) -> None:
    asked.pull()
    status, answer = asked("/predict/batch", {"rows": [valid_row()] * 3}, headers=((b"x-request-id", b"many"),))
    assert status == 200

    told = asked.pull()

    assert [entry[2:4] for entry in told["entries"]] == [["many", 0], ["many", 1], ["many", 2]]
    assert [entry[4] for entry in told["entries"]] == answer["predictions"]
    assert told["seen"] == 3


def test_of_a_long_batch_some_rows_are_kept_from_all_over_it(asked: Asked) -> None:
    asked.pull(rows=1000)
    assert asked("/predict/batch", {"rows": [valid_row()] * 5000})[0] == 200

    told = asked.pull(rows=1000)

    assert told["seen"] == 5000
    # The number is binomial: of 5,000 rows with a chance of one in fifty.
    assert 40 < told["sampled"] < 180
    numbers = [entry[3] for entry in told["entries"]]
    assert numbers == sorted(set(numbers)) and numbers[0] < 2000 and numbers[-1] > 3000


def test_a_refused_request_is_not_kept(asked: Asked) -> None:
    asked.pull()
    assert asked("/predict", {})[0] == 422

    told = asked.pull()

    assert (told["seen"], told["entries"]) == (0, [])


@pytest.mark.parametrize(
    "how",
    [
        {"private": False},
        {"raw_path": b"/%72equests/sampled"},
        {"raw_path": b"//requests/sampled"},
    ],
    ids=["the public port", "another spelling", "another path"],
)
def test_nobody_but_who_is_on_the_private_socket_is_answered(asked: Asked, how: dict[str, Any]) -> None:
    asked.pull()
    asked.predict()

    status, told = asked("/requests/sampled", {"read": {}, "plan": {"rate": 1, "rows": 1}}, **how)

    assert status == 404 and "entries" not in told
    assert len(asked.pull()["entries"]) == 1


def test_on_a_network_whoever_comes_through_an_edge_is_not_answered(settings: dict[str, Any]) -> None:
    asked = Asked(Service(Settings.model_validate(settings | {"sampled_by": "network"}), EventLog()))
    question = {"read": {}, "plan": {"rate": 1, "rows": 1}}

    direct = asked("/requests/sampled", question, private=False)
    forwarded = asked("/requests/sampled", question, private=False, headers=((b"x-forwarded-for", b"10.0.0.1"),))

    assert (direct[0], forwarded[0]) == (200, 404)


@pytest.mark.parametrize(
    "question",
    [{}, [], {"read": {}, "plan": {"rate": 2, "rows": 1}}, {"read": {}, "plan": {"rate": 1, "rows": 10**9}}],
)
def test_a_question_of_another_form_is_refused_and_changes_nothing(asked: Asked, question: Any) -> None:
    asked.pull()
    asked.predict()

    assert asked("/requests/sampled", question)[0] == 400
    assert len(asked.pull()["entries"]) == 1


def test_a_replica_without_a_release_has_nothing_to_tell() -> None:
    asked = Asked(Service(Settings(), EventLog()))

    assert asked("/requests/sampled", {"read": {}, "plan": {"rate": 1, "rows": 1}})[0] == 503


def test_the_ring_is_bounded_by_bytes_as_well(asked: Asked) -> None:
    sampled = SampledRequests((), (), digest=None, version=None, ring_bytes=1000)
    plan = Plan(1.0, 100)
    asyncio.run(sampled.pull(Pull({}, plan)))
    for _ in range(5):
        sampled.note("id", None, None, 400)  # type: ignore[arg-type]

    told = json.loads(asyncio.run(sampled.pull(Pull({}, plan))))

    assert RING_BYTES > 1000
    assert [entry[0] for entry in told["entries"]] == [4, 5]


def test_the_answers_count_in_the_ring_as_well() -> None:
    sampled = SampledRequests((), (), digest=None, version=None, answer_bytes=10 * CLASS_BYTES, ring_bytes=5000)
    asyncio.run(sampled.pull(Pull({}, Plan(1.0, 100))))
    for _ in range(9):
        sampled.note("id", None, None, 100)  # type: ignore[arg-type]

    told = json.loads(asyncio.run(sampled.pull(Pull({}, Plan(1.0, 100)))))

    assert [entry[0] for entry in told["entries"]] == [6, 7, 8, 9]


@pytest.mark.parametrize(("task", "kept"), [("binary", 1), ("multiclass", 0), ("regression", 1)])
def test_an_answer_takes_room_for_each_class_that_it_has_the_probability_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, kept: int
) -> None:
    monkeypatch.setattr(main, "CLASS_BYTES", RING_BYTES)
    directory, digest = make_typed_bundle(tmp_path, task)
    settings = Settings(bundle_dir=directory, bundle_digest=digest, model="typed-model", version=VERSION)
    asked = Asked(Service(settings, EventLog()))
    asked.pull()
    assert asked("/predict", ROW)[0] == 200

    told = asked.pull()

    assert (len(told["entries"]), told["sampled"]) == (kept, 1)


def test_a_batch_whose_beginning_says_little_of_its_rows_is_bounded_by_bytes_too() -> None:
    sampled = SampledRequests(("words",), ("f0",), digest=None, version=None)
    asyncio.run(sampled.pull(Pull({}, Plan(1.0, 1000))))
    row_type = msgspec.defstruct("Row", [("f0", str)])
    for _ in range(10):
        body = json.dumps({"rows": [{"words": "x" * 1_000_000}] * 16}).encode()
        # One character of four bytes makes four of each in memory.
        rows = [row_type("x" * 999_999 + "\N{GRINNING FACE}") for _ in range(16)]
        sampled.of_batch("id", body).note(rows, [None] * 16)  # type: ignore[list-item]

    told = json.loads(asyncio.run(sampled.pull(Pull({}, Plan(1.0, 1000)))))

    assert len(told["entries"]) <= 1 and told["sampled"] > 1
