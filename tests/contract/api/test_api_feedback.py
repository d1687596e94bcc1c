"""Telling what was true of answered rows: typed, bounded, once, and in the audit trail."""

from typing import Any

import pytest

from pipelines.domain.promotion import RunState
from pipelines.domain.records import Feedback, RequestLog
from pipelines.domain.release import Environment
from tests.support.world.api import Api
from tests.support.world.records import MODEL, NOW, add

BINARY = {"task": "binary", "classes": ["No", "Yes"], "positive": "Yes", "version": "2"}
REGRESSION = {"task": "regression", "classes": [], "positive": None, "version": "2"}
LABELS = [{"request_id": "r1", "label": "Yes"}, {"request_id": "many", "row": 7, "label": "No"}]


def sampled(api: Api, output: dict[str, Any], environment: Environment = Environment.PRODUCTION) -> None:
    add(api.records, RequestLog(f"{MODEL}/{environment}", MODEL, environment, output, {}, NOW))


def test_labels_are_written_down_for_the_executor_and_audited_in_summary(api: Api) -> None:
    sampled(api, BINARY)

    answer = api.ask("feedback", {"labels": LABELS})

    assert (answer.status_code, answer.json()) == (202, {"id": "f-1", "labels": 2, "repeated": False})
    [kept] = api.records.find(Feedback)
    assert kept.labels == [{"request_id": "r1", "row": 0, "label": "Yes"}, LABELS[1]]
    [entry] = api.records.audit_trail()
    assert (entry.actor, entry.action, entry.detail) == ("alice", "feedback", {"labels": 2, "digest": kept.digest})
    shown = api.get("feedback/f-1")
    assert (shown["state"], shown["labels"], shown["person"]) == ("requested", 2, "alice")


def test_the_same_labels_again_are_told_once(api: Api) -> None:
    sampled(api, BINARY)
    api.ask("feedback", {"labels": LABELS})

    again = api.ask("feedback", {"labels": LABELS}, person="bob")
    other = api.ask("feedback", {"labels": LABELS[:1]})

    assert again.json() == {"id": "f-1", "labels": 2, "repeated": True}
    assert other.json() == {"id": "f-2", "labels": 1, "repeated": False}
    assert len(list(api.records.audit_trail())) == 2


def test_known_labels_stay_known_when_the_executor_has_taken_them(api: Api) -> None:
    sampled(api, BINARY)
    api.ask("feedback", {"labels": LABELS})
    with api.records.write() as transaction:
        transaction.change(transaction.get(Feedback, "f-1"), labels=[], state=RunState.DONE, ended_at=NOW)

    assert api.ask("feedback", {"labels": LABELS}).json()["repeated"]
    assert api.get("feedback/f-1")["state"] == "done"


@pytest.mark.parametrize(
    ("output", "label"),
    [
        (BINARY, "yes"), (BINARY, 1), (BINARY, True), (BINARY, 1.0),
        ({**BINARY, "classes": [0, 1]}, True), ({**BINARY, "classes": [0, 1]}, "1"),
        ({**BINARY, "classes": [False, True]}, 1), (REGRESSION, "1.5"), (REGRESSION, True), (REGRESSION, 10**400),
    ],
)  # fmt: skip
def test_a_label_that_the_model_does_not_answer_is_refused_and_nothing_is_kept(
    api: Api, output: dict[str, Any], label: Any
) -> None:
    sampled(api, output)

    refusal = api.refuse("POST", "/api/v1/feedback", {"labels": [{"request_id": "r1", "label": label}]})

    assert refusal == (400, "usage")
    assert api.records.find(Feedback) == []


def test_numbers_of_a_regression_are_taken_as_such(api: Api) -> None:
    sampled(api, REGRESSION, Environment.STAGING)

    assert api.ask("feedback", {"labels": [{"request_id": "r1", "label": 3}]}).status_code == 202
    assert api.records.find(Feedback)[0].labels[0]["label"] == 3.0


def test_before_anything_was_sampled_nothing_can_be_labelled(api: Api) -> None:
    assert api.refuse("POST", "/api/v1/feedback", {"labels": LABELS}) == (400, "usage")


@pytest.mark.parametrize(
    "labels",
    [
        [], None, [{"request_id": "r1"}], [{"label": "Yes"}], [{"request_id": "a b", "label": "Yes"}],
        [{"request_id": "x" * 129, "label": "Yes"}], [{"request_id": "r1", "label": None}],
        [{"request_id": "r1", "label": ["Yes"]}], [{"request_id": "r1", "label": "Yes", "row": -1}],
        [{"request_id": "r1", "label": "Yes", "row": "0"}], [{"request_id": "r1", "label": "Yes", "more": 1}],
        [{"request_id": "r1", "label": "Yes"}] * 5001,
    ],
)  # fmt: skip
def test_a_list_of_another_form_is_refused(api: Api, labels: Any) -> None:
    sampled(api, BINARY)

    assert api.send("POST", "/api/v1/feedback", {"labels": labels}).status_code == 422
    assert api.records.find(Feedback) == []


def test_so_many_lists_wait_for_the_executor_and_no_more(api: Api) -> None:
    sampled(api, BINARY)
    waiting = [Feedback(f"f-{n}", MODEL, "alice", f"sha256:{n}", 1, [], NOW) for n in range(100)]
    add(api.records, *waiting)

    assert api.refuse("POST", "/api/v1/feedback", {"labels": LABELS}) == (409, "refused")
