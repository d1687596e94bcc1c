"""Replies of each task: what is answered is what the service describes."""

import asyncio
import io
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.logs import EventLog
from app.main import Service
from app.settings import Settings
from tests.support.world.openapi import answers, loose_parts
from tests.support.world.typed_bundles import ROW, answer_of, make_typed_bundle

TASKS = ["binary", "multiclass", "regression"]


def service(directory: Path, task: str) -> Service:
    path, digest = make_typed_bundle(directory, task)
    settings = Settings(bundle_dir=path, bundle_digest=digest, model="typed-model", version="3")
    return Service(settings, EventLog(io.StringIO()))


def posted(served: Service, path: str, body: dict[str, Any]) -> httpx.Response:
    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app=served)
        async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
            return await client.post(path, json=body)

    return asyncio.run(post())


@pytest.mark.parametrize("task", TASKS)
def test_a_row_and_a_batch_are_answered_as_they_are_described(tmp_path: Path, task: str) -> None:
    served = service(tmp_path, task)
    document = served.openapi()
    described = {route: schema for route, status, schema in answers(document) if status == "200"}
    tail = {"model": "typed-model", "version": "3"}

    for path, body, expected in (
        ("/predict", ROW, answer_of(task, ROW) | tail),
        ("/predict/batch", {"rows": [ROW, {"label": 1}]}, {
            "predictions": [answer_of(task, ROW), answer_of(task, {"label": 1})], **tail
        }),
    ):  # fmt: skip
        answer = posted(served, path, body)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found.pop("request_id") == answer.headers["x-request-id"]
        assert found == expected
        assert list(loose_parts(document, described[f"POST {path}"])) == []
        schema = described[f"POST {path}"]
        assert set(answer.json()) == set(schema["properties"]) == set(schema["required"])


def test_the_description_says_what_may_be_left_out_and_what_each_field_takes(tmp_path: Path) -> None:
    operation = service(tmp_path, "regression").openapi()["paths"]["/predict"]["post"]
    row = operation["requestBody"]["content"]["application/json"]["schema"]

    assert row["required"] == ["label"]
    formats = {name: {each.get("format"), each.get("maxLength")} - {None}
               for name in ("day", "at", "words") for each in row["properties"][name]["anyOf"][:1]}  # fmt: skip
    assert formats == {"day": {"date"}, "at": {"date-time"}, "words": {20}}
