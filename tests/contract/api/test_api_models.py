"""Every request is about one model of the installation, the default one if it names none; models come and go."""

from typing import Any

import pytest

from pipelines import commands
from pipelines.domain.promotion import RunState
from pipelines.domain.records import FurtherModel, ModelState, Observation
from tests.support.world.api import READING, WRITING, Api, wait_for_people
from tests.support.world.records import MODEL, NOW, add, evaluation, policy_body, put_in_force, release

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
    "evalsets": {"name": "mine", "digest": "sha256:" + "0" * 64, "run_id": "a" * 32},
    "maintenance": {"verb": "up"},
    "maintenance/p-1/end": {},
    "feedback": {"labels": [{"request_id": "r1", "label": "Yes"}]},
    "live/drift": {},
}
# These are about models themselves.
OF_MODELS = {"models", "models/p-1/removal"}
ASKING = sorted(set(WRITING) - OF_MODELS)


def everything(api: Api) -> tuple[Any, ...]:
    return api.get("status"), api.get("promotions"), api.get("audit"), api.get("policy"), api.get("models")


def added(api: Api, name: str = OTHER) -> None:
    """Have a further model looked after."""
    assert api.send("POST", "/api/v1/models", {"model": name}).status_code == 201


def test_every_writing_route_is_tried_here() -> None:
    assert set(BODIES) == set(ASKING)


@pytest.mark.parametrize("path", ASKING)
def test_a_request_about_an_unknown_model_is_refused_and_changes_nothing(api: Api, path: str) -> None:
    wait_for_people(api.records)
    before = everything(api)

    answer = api.send("POST", f"/api/v1/{path}", {**BODIES[path], "model": OTHER}, person="bob")

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "unknown_model")
    assert MODEL in error["message"]
    assert OTHER in error["message"]
    assert "model add" in error["next"]
    assert everything(api) == before


@pytest.mark.parametrize("path", READING)
def test_who_reads_about_an_unknown_model_is_refused(api: Api, path: str) -> None:
    assert api.refuse("GET", path, params={"model": OTHER}) == (404, "unknown_model")


def test_who_names_no_model_means_the_default_one(api: Api) -> None:
    added(api)
    assert api.get("status", model=MODEL) == api.get("status")
    asked = api.send("POST", "/api/v1/evaluations", {"version": "2"}).json()["id"]
    assert api.get(f"evaluations/{asked}")["model"] == MODEL


@pytest.mark.parametrize("name", ["", " ", MODEL.upper(), f"{MODEL} ", "x" * 5000, "../" + MODEL, "\u202e"])
def test_a_model_is_named_exactly(api: Api, name: str) -> None:
    answer = api.send("POST", "/api/v1/rollbacks", {"model": name})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_model")
    assert len(answer.content) < 600


def test_each_model_is_asked_about_by_itself(api: Api) -> None:
    added(api)
    put_in_force(api.records, policy_body(**{"gates.accuracy.minimum": 0.9}), model=OTHER)
    add(api.records, release("r-1", "1"), Observation(f"{MODEL}/production", "1", "1", [], None, NOW))
    add(
        api.records,
        release("r-2", "7", model=OTHER),
        evaluation("e-1", "8", report=None, model=OTHER, state=RunState.RUNNING),
    )

    mine, others = api.get("status"), api.get("status", model=OTHER)

    assert [mine["models"], others["models"]] == [[MODEL, OTHER]] * 2
    assert (mine["model"], mine["serving"]["production"]["version"], mine["unfinished"]) == (MODEL, "1", [])
    assert (others["model"], others["serving"]["production"]["version"]) == (OTHER, "7")
    assert [work["id"] for work in others["unfinished"]] == ["e-1"]
    assert (set(mine["observed"]), others["observed"]) == ({"production"}, {})
    assert mine["policy"] != others["policy"]
    assert [each["id"] for each in api.get("releases", model=OTHER)["releases"]] == ["r-2"]
    assert api.get("versions", model=OTHER)["model"] == OTHER
    asked = api.send("POST", "/api/v1/rollbacks", {"model": OTHER}).json()["id"]
    assert (api.get(f"rollbacks/{asked}")["model"], api.get(f"rollbacks/{asked}")["replaces"]) == (OTHER, "r-2")


def test_a_model_is_added_once_and_listed_beside_the_default_one(api: Api) -> None:
    for _ in range(2):
        added(api)
    add(api.records, release("r-2", "7", model=OTHER))

    first, second = api.get("models")["models"]

    assert (first["name"], first["default"], first["added_by"]) == (MODEL, True, None)
    assert (second["name"], second["default"], second["added_by"], second["state"]) == (OTHER, False, "alice", "served")
    assert second["serving"] == {"production": "7"}
    assert [entry["action"] for entry in api.get("audit")["entries"]].count("model.add") == 1
    added(api, MODEL)
    assert len(api.get("models")["models"]) == 2


@pytest.mark.parametrize("name", ["../x", "a/b", "", "-x"])
def test_what_is_no_name_of_a_model_is_not_added(api: Api, name: str) -> None:
    assert api.refuse("POST", "/api/v1/models", {"model": name}) == (400, "usage")


def test_a_model_is_removed_and_nothing_more_is_asked_of_it(api: Api) -> None:
    added(api)
    assert api.send("POST", f"/api/v1/models/{OTHER}/removal", {}).status_code == 202
    assert api.get(f"models/{OTHER}")["state"] == "removing"
    for path in ASKING:
        answer = api.refuse("POST", f"/api/v1/{path}", {**BODIES[path], "model": OTHER})
        assert answer == (400, "usage"), path
    assert api.get("releases", model=OTHER)["releases"] == []
    assert api.refuse("POST", "/api/v1/models", {"model": OTHER}) == (409, "refused")

    with api.records.write() as transaction:
        transaction.put(FurtherModel(OTHER, "alice", NOW, ModelState.ARCHIVED, NOW))
    assert api.get("status")["models"] == [MODEL]
    assert api.get("releases", model=OTHER)["releases"] == []
    added(api)
    assert api.get(f"models/{OTHER}")["state"] == "served"


def test_a_model_is_not_removed_while_work_on_it_goes_on(api: Api) -> None:
    added(api)
    commands.request_evaluation(api.records, person="alice", model=OTHER, version="1", override=None, now=NOW)
    answer = api.send("POST", f"/api/v1/models/{OTHER}/removal", {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "refused")
    assert "e-1" in answer.json()["error"]["message"]
    assert api.get(f"models/{OTHER}")["state"] == "served"


def test_the_default_model_stays_and_an_unknown_one_is_no_model(api: Api) -> None:
    assert api.refuse("POST", f"/api/v1/models/{MODEL}/removal", {}) == (400, "usage")
    assert api.refuse("POST", f"/api/v1/models/{OTHER}/removal", {}) == (404, "unknown_model")
    assert api.refuse("GET", f"/api/v1/models/{OTHER}") == (404, "unknown_model")
    added(api)
    assert api.refuse("POST", f"/api/v1/models/{OTHER}/removal", {"model": MODEL}) == (400, "usage")


def test_a_model_that_is_not_being_removed_is_streamed_once(api: Api) -> None:
    added(api)
    answer = api.send("GET", f"/api/v1/models/{OTHER}/events")
    assert answer.status_code == 200
    assert answer.text.count("data: ") == 1
