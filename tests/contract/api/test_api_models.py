"""Every request is about one model: what asks for a change names it, and another model's request changes nothing."""

from typing import Any

import pytest

from tests.support.world.api import READING, WRITING, Api, wait_for_people
from tests.support.world.records import MODEL, policy_body

OTHER = "other-model"
# What each writing route takes beside the model.
BODIES: dict[str, dict[str, Any]] = {
    "archives": {},
    "evaluations": {"version": "2"},
    "evaluations/p-1/cancel": {},
    "promotions": {"version": "2"},
    "approvals": {"version": "2", "approved": True},
    "rollbacks": {},
    "policy": {"policy": policy_body()},
    "maintenance": {"verb": "up"},
    "maintenance/p-1/end": {},
}


def everything(api: Api) -> tuple[Any, ...]:
    return api.get("status"), api.get("promotions"), api.get("audit"), api.get("policy")


def test_every_writing_route_is_tried_here() -> None:
    assert set(BODIES) == set(WRITING)


@pytest.mark.parametrize("path", WRITING)
def test_a_request_about_another_model_is_refused_and_changes_nothing(api: Api, path: str) -> None:
    wait_for_people(api.records)
    before = everything(api)

    answer = api.send("POST", f"/api/v1/{path}", {**BODIES[path], "model": OTHER}, person="bob")

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "other_model")
    assert MODEL in error["message"]
    assert OTHER in error["message"]
    assert f"name: {MODEL}" in error["next"]
    assert everything(api) == before


@pytest.mark.parametrize("path", WRITING)
def test_a_request_that_would_change_something_names_its_model(api: Api, path: str) -> None:
    wait_for_people(api.records)
    before = everything(api)

    answer = api.send("POST", f"/api/v1/{path}", BODIES[path], person="bob")

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "usage")
    assert "body.model" in answer.json()["error"]["message"]
    assert everything(api) == before


@pytest.mark.parametrize("path", READING)
def test_who_reads_about_another_model_is_refused(api: Api, path: str) -> None:
    assert api.refuse("GET", path, params={"model": OTHER}) == (400, "other_model")


def test_who_reads_need_not_name_the_model_but_may(api: Api) -> None:
    assert api.get("status", model=MODEL) == api.get("status")


@pytest.mark.parametrize("name", ["", " ", MODEL.upper(), f"{MODEL} ", "x" * 5000, "../" + MODEL, "\u202e"])
def test_a_model_is_named_exactly(api: Api, name: str) -> None:
    answer = api.send("POST", "/api/v1/rollbacks", {"model": name})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "other_model")
    assert len(answer.content) < 600
