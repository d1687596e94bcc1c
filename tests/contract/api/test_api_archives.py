"""Asking for what nothing needs any more to be removed, and following it."""

from pipelines.domain.events import EventKind
from pipelines.governance.archiving import answer, unanswered
from tests.support.world.api import Api
from tests.support.world.records import MODEL

FOUND = {"bundles": ["sha256:a"], "evaluation_sets": [], "work": ["e-1"], "journal": [], "progress": 7}


def test_a_request_is_an_intent_that_the_executor_answers(api: Api) -> None:
    id = api.ask("archives").json()["id"]
    asked = api.send("GET", f"/api/v1/archives/{id}").json()
    assert (asked["state"], asked["requested_by"], asked["found"]) == ("requested", "alice", None)
    assert [(e.actor, e.action, e.phase) for e in api.records.audit_trail()] == [("alice", "archive", "intent")]
    (pending,) = unanswered(api.records, 0)
    with api.records.write() as transaction:
        answer(transaction, pending, MODEL, {"found": FOUND})
    done = api.send("GET", f"/api/v1/archives/{id}").json()
    assert (done["state"], done["found"]) == ("done", FOUND)


def test_a_look_changes_nothing_and_is_not_audited(api: Api) -> None:
    id = api.ask("archives", {"dry_run": True}).json()["id"]
    assert api.send("GET", f"/api/v1/archives/{id}").json()["dry_run"] is True
    assert list(api.records.audit_trail()) == []


def test_a_number_that_asked_for_nothing_is_refused(api: Api) -> None:
    with api.records.write() as transaction:
        transaction.emit(EventKind.PROGRESS_MADE, subject="p-1")
    for id in (1, 99):
        assert api.refuse("GET", f"/api/v1/archives/{id}") == (400, "usage")
    for id in ("0", "-1", "x", "1e9", "9" * 30):
        assert api.send("GET", f"/api/v1/archives/{id}").status_code in (400, 404, 422)
