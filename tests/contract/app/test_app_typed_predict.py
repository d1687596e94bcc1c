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


def service(directory: Path, task: str, **options: Any) -> Service:
    path, digest = make_typed_bundle(directory, task, **options)
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
    row = service(tmp_path, "regression").openapi()["components"]["schemas"]["Row"]

    assert row["required"] == ["label"]
    formats = {name: {each.get("format"), each.get("maxLength")} - {None}
               for name in ("day", "at", "words") for each in row["properties"][name]["anyOf"][:1]}  # fmt: skip
    assert formats == {"day": {"date"}, "at": {"date-time"}, "words": {20}}
    limits = {name: [row["properties"][name]["anyOf"][0].get(word) for word in ("type", "minimum", "maximum")]
              for name in ("count", "net weight")}  # fmt: skip
    assert limits == {"count": ["integer", 1 - 2**53, 2**53 - 1], "net weight": ["number", -5, 1.7e308]}


@pytest.mark.parametrize(
    ("task", "classes", "expected"),
    [
        ("binary", [False, True], {"type": "boolean"}),
        ("multiclass", [0, 1, 2], {"type": "integer", "enum": [0, 1, 2]}),
        ("multiclass", ["0", "1", "2"], {"type": "string", "enum": ["0", "1", "2"]}),
        ("regression", [], {"type": "number"}),
    ],
)
def test_a_class_is_described_by_those_that_there_are(
    tmp_path: Path, task: str, classes: list[Any], expected: dict[str, Any]
) -> None:
    golden = answer_of(task, ROW)
    if classes and isinstance(classes[0], str):
        golden |= {"prediction": str(golden["prediction"])}
    changes = {
        "output": {"target": "y", "classes": classes, "positive": True if task == "binary" else None},
        "golden": {"rows": [ROW], "expected": [golden], "tolerance": 1e-5},
    }
    schemas = service(tmp_path, task, changes=changes).openapi()["components"]["schemas"]
    found = [schema["properties"]["prediction"] for schema in schemas.values() if "prediction" in schema["properties"]]
    assert len(found) == 2
    for each in found:
        assert {key: value for key, value in each.items() if key != "description"} == expected
        assert each["description"].startswith("The predicted")
