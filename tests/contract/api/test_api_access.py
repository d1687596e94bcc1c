"""Who gets in: nobody without a token, whatever the path, method or body; and of each person so much at once."""

import asyncio
import threading
from dataclasses import replace
from typing import Any

import httpx
import pytest
from anyio import to_thread

from pipelines.api.guard import AT_ONCE, MOST_OF_A_NOUN
from tests.support.world.api import GUARDED, OPEN, TOKENS, Api
from tests.support.world.fakes import FakeVersions
from tests.support.world.records import MODEL

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def test_the_route_table_is_the_documented_one() -> None:
    resources = {path.split("/")[3] for _, path in GUARDED}

    documented = "versions evaluations promotions approvals releases rollbacks policy audit status maintenance archives"
    assert resources == {*documented.split(), "models", "lineage", "evalsets", "live", "feedback"}


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_no_route_answers_without_a_valid_token(api: Api, method: str, path: str) -> None:
    wrong = ["", "Bearer ", "Bearer wrong", "Bearer token-of-alic", "Basic token-of-alice", "token-of-alice"]
    for headers in ({}, *({"authorization": header} for header in wrong)):
        assert api.refuse(method, path, person=None, headers=headers) == (401, "not_allowed"), headers


@pytest.mark.parametrize(("method", "path"), [route for route in GUARDED if route[0] == "POST"])
def test_a_body_is_not_looked_at_before_its_sender_is_known(api: Api, method: str, path: str) -> None:
    headers = {"content-type": "application/json"}

    for content in (b"{", b"\xff\xfe", b"[" * 100_000, b'{"version": NaN}', b"{}"):
        refusal = api.refuse(method, path, person=None, content=content, headers=headers)
        assert refusal == (401, "not_allowed"), content[:20]
    assert list(api.records.audit_trail()) == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/status",
        "/api/v1/status/",
        "/api/v1/nothing",
        "/api/v1/",
        "/api/v1/../v1/status",
        "/api/v1/%2e%2e/status",
        "/api/v1//status",
        "/api/v2/status",
        "/API/V1/STATUS",
    ],
)
def test_odd_paths_and_methods_let_nobody_in(api: Api, path: str) -> None:
    for method in METHODS:
        answer = api.send(method, path, person=None)

        assert answer.status_code in (307, 401, 404, 405), method
        assert MODEL not in answer.text


@pytest.mark.parametrize("path", sorted(OPEN))
def test_liveness_and_the_description_are_open(api: Api, path: str) -> None:
    assert api.send("GET", path, person=None).status_code == 200


def test_a_token_in_the_wrong_place_is_none(api: Api) -> None:
    for more in ({"params": {"token": TOKENS["alice"]}}, {"headers": {"cookie": f"token={TOKENS['alice']}"}}):
        assert api.refuse("GET", "/api/v1/status", person=None, **more)[0] == 401


class Hanging(FakeVersions):
    """A registry that answers when `goes_on` is set; `most` were asked of it at once."""

    def __init__(self) -> None:
        super().__init__("1")
        self.goes_on = threading.Event()
        self.asked = self.most = 0

    def versions(self, model: str, before: int | None = None) -> tuple[list[dict[str, Any]], bool]:
        self.asked += 1
        self.most = max(self.most, self.asked)
        assert self.goes_on.wait(30)
        self.asked -= 1
        return super().versions(model, before)


def test_who_waits_for_a_hanging_registry_takes_no_turn_of_anybody_else(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.api.guard.MOST_OF_A_PERSON", MOST_OF_A_NOUN + 1)
    registry = Hanging()
    api.app.state.slipway = replace(api.app.state.slipway, versions=registry)

    async def ask_much() -> None:
        transport = httpx.ASGITransport(app=api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", trust_env=False) as client:

            async def get(path: str, person: str = "alice") -> httpx.Response:
                return await client.get(path, headers={"authorization": f"Bearer {TOKENS[person]}"}, timeout=30)

            listed = [asyncio.create_task(get("/api/v1/versions")) for _ in range(MOST_OF_A_NOUN)]
            while registry.asked < AT_ONCE:
                await asyncio.sleep(0.01)
            refused = await get("/api/v1/versions")
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert refused.json()["error"]["code"] == "too_many_requests"
            for person in TOKENS:
                assert (await get("/api/v1/status", person)).status_code == 200
            # Both are under way at once, and one of them is one too many.
            both = await asyncio.gather(get("/api/v1/status"), get("/api/v1/audit"))
            assert {each.status_code for each in both} == {200, 429}
            registry.goes_on.set()
            assert {each.status_code for each in await asyncio.gather(*listed)} == {200}
            assert (await get("/api/v1/versions")).status_code == 200

    asyncio.run(ask_much())
    assert registry.most == AT_ONCE


def test_liveness_needs_no_thread(api: Api) -> None:
    async def ask() -> httpx.Response:
        limiter = to_thread.current_default_thread_limiter()
        taken = [object() for _ in range(int(limiter.total_tokens))]
        for each in taken:
            limiter.acquire_on_behalf_of_nowait(each)
        transport = httpx.ASGITransport(app=api.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", trust_env=False) as client:
            return await asyncio.wait_for(client.get("/health"), 5)

    assert asyncio.run(ask()).status_code == 200
