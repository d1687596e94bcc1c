"""The one form of every refusal, and that nothing is written with it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.api.app import status_of
from pipelines.api.door import MAX_BODY_BYTES
from pipelines.domain.promotion import RunState
from pipelines.domain.records import PolicyChange, Rollback
from pipelines.domain.release import Environment
from pipelines.errors import SlipwayError
from pipelines.governance.progress import report_progress
from tests.support.world.api import GUARDED, Api, wait_for_people
from tests.support.world.records import MODEL, NOW, add, policy_body


def with_minimum(accuracy: float) -> bytes:
    """Return a request for a policy whose limit on accuracy is no number that JSON or a float can hold."""
    return json.dumps({"model": MODEL, "policy": policy_body(**{"gates.accuracy.minimum": accuracy})}).encode()


def with_kept(version: str) -> bytes:
    """Return a request for a policy that keeps a version of such a name."""
    return json.dumps({"model": MODEL, "policy": policy_body(**{"retention.keep_versions": [version]})}).encode()


@pytest.mark.parametrize(("method", "path"), [route for route in GUARDED if "p-1" in route[1]])
def test_an_id_that_does_not_exist_is_refused_in_one_form(api: Api, method: str, path: str) -> None:
    body = {"model": MODEL} if method == "POST" else None
    # A model is asked for by its name, and not found like a version.
    by_name = method == "GET" and "/models/" in path
    assert api.refuse(method, path, body) == ((404, "unknown_model") if by_name else (400, "usage"))


@pytest.mark.parametrize("id", ["x" * 5000, "p-1;DROP", "%00", "%ff", "..%2f..%2fetc", "p-1\u202e"])
def test_odd_ids_are_refused_and_shown_short(api: Api, id: str) -> None:
    answer = api.send("GET", f"/api/v1/promotions/{id}")

    assert answer.status_code in (400, 404)
    assert len(answer.content) < 600


@pytest.mark.parametrize("route", ["evaluations", "promotions"])
def test_a_version_that_is_not_registered_is_not_found(api: Api, route: str) -> None:
    answer = api.ask(route, {"version": "99"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_version")
    assert list(api.records.audit_trail()) == []


@pytest.mark.parametrize("route", ["evaluations", "promotions"])
def test_a_registry_that_is_down_is_503_and_nothing_is_written(api: Api, route: str) -> None:
    api.versions.down = True

    answer = api.ask(route, {"version": "2"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "registry_unavailable")
    assert list(api.records.audit_trail()) == []


@pytest.mark.parametrize("text", ["x" * 1001, "\x1b[2Kgood", "two\nlines", "\u202eevil"])
@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("approvals", {"version": "2", "approved": False}, "reason"),
        ("approvals", {"approved": False}, "version"),
        ("promotions", {"version": "2", "override_gates": ["accuracy"]}, "override_reason"),
        ("evaluations", {"override_reason": "why"}, "version"),
    ],
)
def test_text_that_hides_something_or_has_no_bounds_is_refused(
    api: Api, path: str, body: dict[str, Any], field: str, text: str
) -> None:
    assert api.refuse("POST", f"/api/v1/{path}", {"model": MODEL, **body, field: text}) == (422, "usage")
    assert list(api.records.audit_trail()) == []


def test_a_body_of_more_than_a_megabyte_is_refused(api: Api) -> None:
    body = {"model": MODEL, "policy": {"profile": "x" * MAX_BODY_BYTES}}
    assert api.refuse("POST", "/api/v1/policy", body) == (413, "usage")
    assert list(api.records.audit_trail()) == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("evaluations", {"verison": "2"}),
        ("evaluations", {"version": 2}),
        ("evaluations", {"version": "2", "override_gates": "accuracy"}),
        ("evaluations", []),
        ("promotions", {"version": "2", "as": "bob"}),
        ("promotions", {"version": ["2"]}),
        ("approvals", {"version": "2"}),
        ("approvals", {"version": "2", "approved": True, "person": "bob"}),
        ("approvals", {"version": "2", "approved": "perhaps"}),
        ("approvals", {"version": "2", "approved": None}),
        ("rollbacks", {"environment": "development"}),
        ("rollbacks", {"environment": "production", "to": "1"}),
        ("policy", {}),
        ("policy", {"policy": []}),
        ("policy", {"policy": {}, "force": True}),
    ],
)
def test_unknown_and_wrong_fields_are_refused(api: Api, path: str, body: Any) -> None:
    given = {"model": MODEL, **body} if isinstance(body, dict) else body
    assert api.refuse("POST", f"/api/v1/{path}", given) == (422, "usage")
    assert list(api.records.audit_trail()) == []


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("evaluations", b'{"model": "\\ud800"}'),
        ("evaluations", b"not json"),
        ("evaluations", b""),
        ("evaluations", b'{"model": "toy-model", "version": NaN}'),
        ("evaluations", b'{"model": "toy-model", "version": "\\ud800"}'),
        ("evaluations", b'{"model": "toy-model", "\\ud800": 1}'),
        ("evaluations", b"\xff\xfe\x00"),
        ("evaluations", b"[" * 100_000),
        ("approvals", b'{"model": "toy-model", "version": "2", "approved": false, "reason": "\\ud800"}'),
        ("policy", b'{"model": "toy-model", "policy": {"\\ud800": NaN}}'),
        ("policy", b'{"model": "toy-model", "policy": NaN}'),
        ("policy", b'{"model": "toy-model", "policy": {"profile": "\\ud800"}}'),
        (
            "policy",
            with_minimum(float("nan")),
        ),
        (
            "policy",
            with_minimum(float("inf")),
        ),
        ("policy", with_minimum(10**400)),
        ("policy", with_kept("\ud800")),
    ],
)
def test_what_is_no_proper_json_is_refused_and_never_a_failure(api: Api, path: str, content: bytes) -> None:
    wait_for_people(api.records)

    answer = api.send("POST", f"/api/v1/{path}", content=content, headers={"content-type": "application/json"})

    assert answer.status_code in (400, 422)
    assert set(answer.json()["error"]) == {"code", "message", "next"}
    assert len(answer.content) < 2000
    assert (list(api.records.audit_trail()), len(api.records.find(PolicyChange))) == ([], 1)


def test_characters_that_nobody_sees_leave_as_escapes(api: Api) -> None:
    hiding = "\x1b[2K\x7f\x9b\u202e\u2028good"
    stopped = {"code": "not_servable", "message": hiding, "next": hiding}
    add(api.records, Rollback("b-1", MODEL, Environment.PRODUCTION, "bob", NOW, state=RunState.STOPPED, error=stopped))
    with api.records.write() as transaction:
        report_progress(transaction, "b-1", "K0", hiding)
        transaction.audit("bob", "rollback", "outcome", subject="b-1", detail={"why": hiding})

    for path in ("rollbacks/b-1", "rollbacks/b-1/events", "audit"):
        answer = api.send("GET", f"/api/v1/{path}")
        assert all(32 <= byte < 127 for byte in answer.content.replace(b"\n", b"")), path
        assert rb"\u001b[2K\u007f\u009b\u202e\u2028good" in answer.content, path
    assert api.get("rollbacks/b-1")["error"]["message"] == hiding


def test_routes_that_do_not_exist_are_refused_in_the_same_form(api: Api) -> None:
    assert api.refuse("GET", "/api/v1/nothing") == (404, "usage")
    assert api.refuse("DELETE", "/api/v1/releases") == (405, "usage")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/api/v1/audit", "/api/v1/releases", "/api/v1/approvals", "/api/v1/promotions/p-1"])
def test_nothing_can_be_edited_or_deleted(api: Api, method: str, path: str) -> None:
    assert api.send(method, path, {}).status_code == 405


def test_a_database_that_does_not_answer_is_503(api: Api, tmp_path: Path) -> None:
    api.records.close()
    for file in tmp_path.glob("slipway.db*"):
        file.unlink()

    assert api.refuse("GET", "/api/v1/releases") == (503, "database_unavailable")


def test_a_refusal_has_the_status_of_its_kind() -> None:
    def kinds(of: type[SlipwayError]) -> Iterator[type[SlipwayError]]:
        yield of
        for kind in of.__subclasses__():
            yield from kinds(kind)

    statuses = {kind.code: status_of(kind("x"), authenticated=True) for kind in kinds(SlipwayError)}

    assert {code for code, status in statuses.items() if status == 500} == {"internal"}
    assert statuses["lease_held"] == 409
    assert statuses["unknown_version"] == 404
    assert statuses["deploy_failed"] == 502
    assert statuses["approval_expired"] == 503
