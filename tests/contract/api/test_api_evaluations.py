"""Asking for an evaluation, and what is shown of it."""

import pytest

from pipelines.domain.events import EventKind
from pipelines.domain.records import Evaluation
from pipelines.errors import GateFailed
from pipelines.governance.work import stop
from tests.support.world.api import Api
from tests.support.world.records import MODEL, report_step


def test_an_evaluation_is_asked_for_and_shown(api: Api) -> None:
    answer = api.ask("evaluations", {})

    assert (answer.status_code, answer.json()) == (202, {"id": "e-1", "version": "3"})
    report_step(api.records, "e-1", "packaging")
    shown = api.get("evaluations/e-1")
    assert (shown["state"], shown["requested_by"], shown["report"]) == ("requested", "alice", None)
    assert [line["step"] for line in shown["steps"]] == ["packaging"]


def test_an_evaluation_is_cancelled_once_by_whoever_asks_first(api: Api) -> None:
    api.ask("evaluations", {})

    for person in ("bob", "alice"):
        answer = api.ask("evaluations/e-1/cancel", {}, person=person)
        assert (answer.status_code, answer.json()) == (202, {"id": "e-1"})

    assert api.get("evaluations/e-1")["cancel_asked_by"] == "bob"
    cancelled = [entry for entry in api.records.audit_trail() if entry.action == "evaluation.cancel"]
    assert [(entry.actor, entry.subject) for entry in cancelled] == [("bob", "e-1")]
    assert [event.detail["person"] for event in api.records.events(kinds=[EventKind.EVALUATION_CANCEL_ASKED])] == [
        "bob"
    ]


@pytest.mark.parametrize("id", ["e-9", "p-1", "..%2fe-1", "e-1%00"])
def test_what_is_no_evaluation_can_not_be_cancelled(api: Api, id: str) -> None:
    assert api.refuse("POST", f"/api/v1/evaluations/{id}/cancel", {"model": MODEL})[0] in (400, 404)


def test_an_evaluation_that_has_ended_can_not_be_cancelled(api: Api) -> None:
    api.ask("evaluations", {})
    with api.records.write() as transaction:
        stop(transaction, transaction.get(Evaluation, "e-1"), GateFailed("no"), at="now")

    assert api.refuse("POST", "/api/v1/evaluations/e-1/cancel", {"model": MODEL}) == (400, "usage")
    assert api.get("evaluations/e-1")["cancel_asked_by"] is None
