"""People's yes and no through the API."""

from pipelines.domain.promotion import RunState
from pipelines.domain.records import Approval, Evaluation, Promotion
from tests.support.world.api import Api, wait_for_people
from tests.support.world.records import MODEL


def test_another_person_approves(api: Api) -> None:
    wait_for_people(api.records)
    seen = api.records.get(Evaluation, "e-1").report_digest

    answer = api.ask("approvals", {"version": "2", "approved": True, "report_digest": seen}, person="bob")

    assert answer.status_code == 201
    assert answer.json()["promotion_id"] == "p-1"
    assert answer.json()["evidence"]["report_digest"] == seen
    assert api.records.get(Promotion, "p-1").state is RunState.APPROVED


def test_the_requester_is_forbidden_to_approve(api: Api) -> None:
    wait_for_people(api.records)
    body = {
        "model": MODEL,
        "version": "2",
        "approved": True,
        "report_digest": api.records.get(Evaluation, "e-1").report_digest,
    }

    assert api.refuse("POST", "/api/v1/approvals", body) == (403, "not_allowed")
    assert api.records.find(Approval) == []
    assert api.records.newest_audit(1)[-1].actor == "alice"


def test_a_yes_has_to_name_the_report(api: Api) -> None:
    wait_for_people(api.records)
    for digest in ({}, {"report_digest": None}, {"report_digest": ""}):
        body = {"model": MODEL, "version": "2", "approved": True, **digest}
        assert api.refuse("POST", "/api/v1/approvals", body, person="bob") == (400, "usage")
    assert api.records.find(Approval) == []


def test_a_yes_to_a_report_that_is_not_the_promotions_is_refused(api: Api) -> None:
    wait_for_people(api.records)
    body = {"model": MODEL, "version": "2", "approved": True, "report_digest": "sha256:older"}

    assert api.refuse("POST", "/api/v1/approvals", body, person="bob") == (409, "approval_void")


def test_a_person_rejects_with_a_reason(api: Api) -> None:
    wait_for_people(api.records)

    answer = api.ask("approvals", {"version": "2", "approved": False, "reason": "slow"}, person="bob")

    assert answer.status_code == 201
    shown = api.get("promotions/p-1")
    assert shown["error"]["message"] == "rejected by bob: slow"
    assert [given["person"] for given in shown["approvals"]] == ["bob"]
