"""Asking for production, and what is shown of it."""

from typing import Any

import pytest

from pipelines.domain.promotion import RunState
from pipelines.domain.records import Promotion
from tests.support.world.api import Api
from tests.support.world.records import add, promotion, report_step


def test_a_promotion_is_asked_for_and_shown_with_its_evaluation(api: Api) -> None:
    answer = api.ask("promotions", {"version": "2"}, person="bob")

    assert (answer.status_code, answer.json()) == (202, {"id": "p-1", "promotion_id": "p-1", "version": "2"})
    report_step(api.records, "p-1", "K0")
    report_step(api.records, "e-1", "packaging")
    shown = api.get("promotions/p-1")
    assert (shown["requested_by"], shown["evaluation"]["id"], shown["approvals"]) == ("bob", "e-1", [])
    assert [line["step"] for line in shown["steps"]] == ["packaging", "K0"]


def test_an_override_goes_with_a_promotion(api: Api) -> None:
    body = {"version": "2", "override_reason": "hotfix", "override_gates": ["slo", "accuracy"]}

    assert api.ask("promotions", body).status_code == 202
    asked = api.records.get(Promotion, "p-1")
    assert (asked.override_gates, asked.override_reason) == (["accuracy", "slo"], "hotfix")


def test_promotions_are_listed_for_one_version_or_all(api: Api) -> None:
    add(api.records, promotion("p-1", "2"), promotion("p-2", "3"))

    everything = api.get("promotions")["promotions"]
    one = api.send("GET", "/api/v1/promotions", params={"version": "3"}).json()["promotions"]

    assert [found["id"] for found in everything] == ["p-1", "p-2"]
    assert [found["id"] for found in one] == ["p-2"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"override_gates": ["accuracy"]}, "gates and a reason"),
        ({"override_reason": "why"}, "gates and a reason"),
        ({"override_reason": "why", "override_gates": ["digest"]}, "'digest' can't be overridden"),
    ],
)
def test_an_override_that_can_not_be_is_refused(api: Api, body: dict[str, Any], named: str) -> None:
    answer = api.ask("promotions", {"version": "2", **body})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "usage")
    assert named in answer.json()["error"]["message"]


def test_the_last_thousand_promotions_are_listed_and_older_ones_are_asked_for(api: Api) -> None:
    asked = [promotion(f"p-{number}", version=str(number % 2), state=RunState.DONE) for number in range(1, 2005)]
    add(api.records, *asked)

    newest = api.get("promotions", version="1")
    older = api.get("promotions", version="1", before=newest["promotions"][0]["id"])

    assert (len(newest["promotions"]), newest["promotions"][-1]["id"], newest["more"]) == (1000, "p-2003", True)
    assert ([found["id"] for found in older["promotions"]], older["more"]) == (["p-1", "p-3"], False)
