"""An API over records of its own, asked in-process; every answer is held to what the API says of itself."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from pipelines.adapters.database.records import SqlRecords
from pipelines.api.app import create_app, describe_api
from pipelines.api.state import ApiState
from tests.support.servers.databases import sqlite_records
from tests.support.world.fakes import FakeCheckpoints, FakeVersions
from tests.support.world.records import MODEL, add, evaluation, policy, promotion, put_in_force, release, report

TOKENS = {"alice": "token-of-alice", "bob": "token-of-bob"}
# What anybody may read: liveness and the description of the API itself.
OPEN = {"/health", "/docs", "/docs/oauth2-redirect", "/api/v1/openapi.json"}


@dataclass(frozen=True)
class Api:
    """An API, its records and its registry."""

    app: FastAPI
    records: SqlRecords
    versions: FakeVersions

    def send(
        self, method: str, path: str, body: Any = None, *, person: str | None = "alice", **more: Any
    ) -> httpx.Response:
        """Send a request as a person; the status that comes must be one that the API describes for the route."""
        headers = {"authorization": f"Bearer {TOKENS[person]}"} if person else {}
        headers |= more.pop("headers", {})
        given = {"json": body} if body is not None else {}
        answer = asyncio.run(self._send(method, path, headers=headers, **given, **more))
        described = _described(method, answer.request.url)
        assert described is None or str(answer.status_code) in described, (method, path, answer.text)
        return answer

    def ask(self, path: str, body: dict[str, Any] | None = None, *, person: str = "alice") -> httpx.Response:
        """POST a body that names the API's model to a path below /api/v1."""
        return self.send("POST", f"/api/v1/{path}", {"model": MODEL, **(body or {})}, person=person)

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON of a path below /api/v1, which must be an answer."""
        answer = self.send("GET", f"/api/v1/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refuse(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, str]:
        """Return status and code of an answer that must be a refusal in the one form."""
        answer = self.send(method, path, body, **more)
        error = answer.json()["error"]
        assert set(error) == {"code", "message", "next"}, error
        assert error["message"]
        assert error["next"]
        return answer.status_code, error["code"]

    async def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", trust_env=False) as client:
            return await asyncio.wait_for(client.request(method, path, **more), timeout=20)


@cache
def description() -> dict[str, Any]:
    """Return the OpenAPI document of the API."""
    return describe_api()


def _described(method: str, url: httpx.URL) -> dict[str, Any] | None:
    """Return the answers that are described for a request; None for one that leads to no route."""
    for path, methods in description()["paths"].items():
        if method.lower() in methods and re.fullmatch(re.sub(r"{\w+}", "[^/]+", path), url.path):
            return dict(methods[method.lower()]["responses"])
    return None


def described_routes() -> list[tuple[str, str]]:
    """Return (method, path) of the generated route table, so that a new route is covered by being there."""
    return [(method.upper(), path) for path, methods in description()["paths"].items() for method in methods]


def filled(route: str) -> str:
    """Return a route with a value for each of its parameters."""
    return re.sub(r"{\w+}", "p-1", route)


GUARDED = [(method, filled(path)) for method, path in described_routes() if path not in OPEN]
WRITING = [path.removeprefix("/api/v1/") for method, path in GUARDED if method == "POST"]
READING = [path for method, path in GUARDED if method == "GET"]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    checkpoints = FakeCheckpoints()
    records = sqlite_records(tmp_path, checkpoints)
    versions = FakeVersions("1", "2", "3")
    put_in_force(records)
    state = ApiState(records=records, checkpoints=checkpoints, versions=versions, model=MODEL, tokens=TOKENS)
    app = _app()
    app.state.slipway = state
    yield Api(app, records, versions)
    records.close()


@cache
def _app() -> FastAPI:
    """Return one application for all tests: its routes take long to make, and know nothing but the state it has."""
    unused: Any = None
    return create_app(ApiState(unused, unused, unused, "", {}))


def wait_for_people(records: SqlRecords) -> None:
    """Store a promotion of version 2 by alice that waits for people."""
    champion = release("r-1", "1")
    add(records, champion, evaluation(report=report(policy=policy(), champion=champion)), promotion())
