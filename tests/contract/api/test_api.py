"""What the HTTP API promises: who gets in, what each route answers, and the one form of every refusal."""

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from pipelines.adapters.database.records import SqlRecords
from pipelines.api.app import create_app, status_of
from pipelines.api.state import ApiState
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import (
    Approval,
    Evaluation,
    LeaderLease,
    Lease,
    Observation,
    PolicyChange,
    Progress,
    Promotion,
    Rollback,
)
from pipelines.domain.release import Environment
from pipelines.errors import SlipwayError
from tests.support.world.fakes import FakeCheckpoints, FakeVersions
from tests.support.world.records import (
    MODEL,
    NOW,
    add,
    evaluation,
    policy,
    policy_body,
    promotion,
    put_in_force,
    release,
    report,
)

TOKENS = {"alice": "token-of-alice", "bob": "token-of-bob"}
# What anybody may read: liveness and the description of the API itself.
OPEN = {"/health", "/docs", "/docs/oauth2-redirect", "/api/v1/openapi.json"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@dataclass(frozen=True)
class Api:
    """An API over records of its own, asked in-process."""

    app: FastAPI
    records: SqlRecords
    versions: FakeVersions

    def send(
        self, method: str, path: str, body: Any = None, *, person: str | None = "alice", **more: Any
    ) -> httpx.Response:
        headers = {"authorization": f"Bearer {TOKENS[person]}"} if person else {}
        headers |= more.pop("headers", {})
        given = {"json": body} if body is not None else {}
        return asyncio.run(self._send(method, path, headers=headers, **given, **more))

    async def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080", trust_env=False) as client:
            return await asyncio.wait_for(client.request(method, path, **more), timeout=20)

    def refuse(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, str]:
        """Return status and code of an answer that must be a refusal in the one form."""
        answer = self.send(method, path, body, **more)
        error = answer.json()["error"]
        assert set(error) == {"code", "message", "next"}, error
        assert error["message"]
        assert error["next"]
        return answer.status_code, error["code"]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    checkpoints = FakeCheckpoints()
    records = SqlRecords(f"sqlite:///{tmp_path / 'slipway.db'}", checkpoints)
    versions = FakeVersions("1", "2", "3")
    put_in_force(records)
    state = ApiState(records=records, checkpoints=checkpoints, versions=versions, model=MODEL, tokens=TOKENS)
    yield Api(create_app(state), records, versions)
    records.close()


def described_routes() -> list[tuple[str, str]]:
    """Return (method, path) of the generated route table, so that a new route is covered by being there."""
    unused: Any = None
    paths = create_app(ApiState(unused, unused, unused, MODEL, TOKENS)).openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


GUARDED = [(method, path.replace("{id}", "p-1")) for method, path in described_routes() if path not in OPEN]


def wait_for_people(records: SqlRecords) -> None:
    """Store a promotion of version 2 by alice that waits for people."""
    champion = release("r-1", "1")
    add(records, champion, evaluation(report=report(policy=policy(), champion=champion)), promotion())


def test_the_route_table_is_the_documented_one() -> None:
    resources = {path.split("/")[3] for _, path in GUARDED}

    documented = "versions evaluations promotions approvals releases rollbacks policy audit status maintenance"
    assert resources == set(documented.split())


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_no_route_answers_without_a_valid_token(api: Api, method: str, path: str) -> None:
    wrong = ["", "Bearer ", "Bearer wrong", "Bearer token-of-alic", "Basic token-of-alice", "token-of-alice"]
    for headers in ({}, *({"authorization": header} for header in wrong)):
        assert api.refuse(method, path, person=None, headers=headers) == (401, "not_allowed"), headers


@pytest.mark.parametrize(("method", "path"), [route for route in GUARDED if route[0] == "POST"])
def test_a_body_is_not_looked_at_before_its_sender_is_known(api: Api, method: str, path: str) -> None:
    headers = {"content-type": "application/json"}

    for content in (b"{", b"\xff\xfe", b"[" * 100_000, b'{"version": NaN}', b"{}"):
        refusal = api.refuse(method, path, person=None, content=content, headers=headers)
        assert refusal == (401, "not_allowed"), content[:20]
    assert api.records.audit_trail() == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/status",
        "/api/v1/status/",
        "/api/v1/nothing",
        "/api/v1/",
        "/api/v1/../v1/status",
        "/api/v1/%2e%2e/status",
        "/api/v1//status",
        "/api/v2/status",
        "/API/V1/STATUS",
    ],
)
def test_odd_paths_and_methods_let_nobody_in(api: Api, path: str) -> None:
    for method in METHODS:
        answer = api.send(method, path, person=None)

        assert answer.status_code in (307, 401, 404, 405), method
        assert MODEL not in answer.text


@pytest.mark.parametrize("path", sorted(OPEN))
def test_liveness_and_the_description_are_open(api: Api, path: str) -> None:
    assert api.send("GET", path, person=None).status_code == 200


def test_a_token_in_the_wrong_place_is_none(api: Api) -> None:
    for more in ({"params": {"token": TOKENS["alice"]}}, {"headers": {"cookie": f"token={TOKENS['alice']}"}}):
        assert api.refuse("GET", "/api/v1/status", person=None, **more)[0] == 401


def test_versions_are_listed_newest_first(api: Api) -> None:
    answer = api.send("GET", "/api/v1/versions").json()

    assert answer["model"] == MODEL
    assert [version["version"] for version in answer["versions"]] == ["3", "2", "1"]


def test_an_evaluation_is_asked_for_and_shown(api: Api) -> None:
    answer = api.send("POST", "/api/v1/evaluations", {})

    assert (answer.status_code, answer.json()) == (202, {"id": "e-1", "version": "3"})
    add(api.records, Progress("s-1", "e-1", "packaging", "", NOW))
    shown = api.send("GET", "/api/v1/evaluations/e-1").json()
    assert (shown["state"], shown["requested_by"], shown["report"]) == ("requested", "alice", None)
    assert [line["step"] for line in shown["steps"]] == ["packaging"]


def test_a_promotion_is_asked_for_and_shown_with_its_evaluation(api: Api) -> None:
    answer = api.send("POST", "/api/v1/promotions", {"version": "2"}, person="bob")

    assert (answer.status_code, answer.json()) == (202, {"id": "p-1", "promotion_id": "p-1", "version": "2"})
    add(api.records, Progress("s-1", "p-1", "K0", "", NOW), Progress("s-2", "e-1", "packaging", "", NOW))
    shown = api.send("GET", "/api/v1/promotions/p-1").json()
    assert (shown["requested_by"], shown["evaluation"]["id"], shown["approvals"]) == ("bob", "e-1", [])
    assert [line["step"] for line in shown["steps"]] == ["packaging", "K0"]


def test_an_override_goes_with_a_promotion(api: Api) -> None:
    body = {"version": "2", "override_reason": "hotfix", "override_gates": ["slo", "accuracy"]}

    assert api.send("POST", "/api/v1/promotions", body).status_code == 202
    asked = api.records.get(Promotion, "p-1")
    assert (asked.override_gates, asked.override_reason) == (["accuracy", "slo"], "hotfix")


def test_another_person_approves(api: Api) -> None:
    wait_for_people(api.records)
    seen = api.records.get(Evaluation, "e-1").report_digest

    answer = api.send(
        "POST", "/api/v1/approvals", {"version": "2", "approved": True, "report_digest": seen}, person="bob"
    )

    assert answer.status_code == 201
    assert answer.json()["promotion_id"] == "p-1"
    assert answer.json()["evidence"]["report_digest"] == seen
    assert api.records.get(Promotion, "p-1").state is RunState.APPROVED


def test_the_requester_is_forbidden_to_approve(api: Api) -> None:
    wait_for_people(api.records)

    assert api.refuse("POST", "/api/v1/approvals", {"version": "2", "approved": True}) == (403, "not_allowed")
    assert api.records.find(Approval) == []
    assert api.records.audit_trail()[-1].actor == "alice"


def test_a_yes_to_a_report_that_is_not_the_promotions_is_refused(api: Api) -> None:
    wait_for_people(api.records)
    body = {"version": "2", "approved": True, "report_digest": "sha256:older"}

    assert api.refuse("POST", "/api/v1/approvals", body, person="bob") == (409, "approval_void")


def test_a_person_rejects_with_a_reason(api: Api) -> None:
    wait_for_people(api.records)

    answer = api.send("POST", "/api/v1/approvals", {"version": "2", "approved": False, "reason": "slow"}, person="bob")

    assert answer.status_code == 201
    shown = api.send("GET", "/api/v1/promotions/p-1").json()
    assert shown["error"]["message"] == "rejected by bob: slow"
    assert [given["person"] for given in shown["approvals"]] == ["bob"]


def test_a_rollback_is_asked_for_production_unless_named(api: Api) -> None:
    first = api.send("POST", "/api/v1/rollbacks", {}, person="bob")
    second = api.send("POST", "/api/v1/rollbacks", {"environment": "staging"})

    assert (first.status_code, second.status_code) == (202, 202)
    assert [asked.environment for asked in api.records.find(Rollback)] == [Environment.PRODUCTION, Environment.STAGING]
    shown = api.send("GET", f"/api/v1/rollbacks/{first.json()['id']}").json()
    assert (shown["requested_by"], shown["state"], shown["steps"]) == ("bob", "requested", [])


def test_a_policy_is_asked_for_and_the_one_in_force_is_shown(api: Api) -> None:
    body = policy_body(**{"gates.accuracy.minimum": 0.9})

    answer = api.send("POST", "/api/v1/policy", {"policy": body})

    change = answer.json()
    assert (answer.status_code, change["digest"]) == (202, policy(**{"gates.accuracy.minimum": 0.9}).digest)
    assert api.send("GET", f"/api/v1/policy/{change['id']}").json()["state"] == "requested"
    in_force = api.send("GET", "/api/v1/policy").json()
    assert (in_force["digest"], in_force["applied_by"], in_force["at"]) == (policy().digest, "alice", NOW)


def test_before_the_first_policy_none_is_shown(tmp_path: Path) -> None:
    records = SqlRecords(f"sqlite:///{tmp_path / 'bare.db'}", FakeCheckpoints())
    bare = Api(create_app(ApiState(records, FakeCheckpoints(), FakeVersions(), MODEL, TOKENS)), records, FakeVersions())
    try:
        assert bare.send("GET", "/api/v1/policy").json() == {"policy": None}
        assert bare.send("GET", "/api/v1/status").json()["policy"] == {"digest": None, "profile": None}
    finally:
        records.close()


def test_promotions_are_listed_for_one_version_or_all(api: Api) -> None:
    add(api.records, promotion("p-1", "2"), promotion("p-2", "3"))

    everything = api.send("GET", "/api/v1/promotions").json()["promotions"]
    one = api.send("GET", "/api/v1/promotions", params={"version": "3"}).json()["promotions"]

    assert [found["id"] for found in everything] == ["p-1", "p-2"]
    assert [found["id"] for found in one] == ["p-2"]


def test_releases_tell_who_served_what_when(api: Api) -> None:
    add(api.records, release("r-1", state=ReleaseState.SUPERSEDED), release("r-2", environment=Environment.STAGING))

    everything = api.send("GET", "/api/v1/releases").json()["releases"]
    staging = api.send("GET", "/api/v1/releases", params={"environment": "staging"}).json()["releases"]

    assert [(found["id"], found["state"]) for found in everything] == [("r-1", "superseded"), ("r-2", "serving")]
    assert [found["id"] for found in staging] == ["r-2"]


@pytest.mark.parametrize(("limit", "shown"), [(None, 5), (2, 2), (0, 1), (-3, 1), (99, 5)])
def test_the_audit_trail_shows_its_last_entries(api: Api, limit: int | None, shown: int) -> None:
    for _ in range(5):
        api.send("POST", "/api/v1/rollbacks", {})

    entries = api.send("GET", "/api/v1/audit", params={"limit": limit} if limit is not None else {}).json()["entries"]

    assert [entry["seq"] for entry in entries] == list(range(6 - shown, 6))


def test_the_audit_trail_is_verified_against_its_heads(api: Api) -> None:
    api.send("POST", "/api/v1/rollbacks", {})

    answer = api.send("GET", "/api/v1/audit/verification").json()

    assert answer == {"valid": True, "entries": 1, "first_bad": None, "detail": "1 entries hold"}


def test_status_tells_what_serves_what_was_seen_what_waits_and_who_holds(api: Api) -> None:
    wait_for_people(api.records)
    add(
        api.records,
        Lease(f"{MODEL}/production", "p-1", 1, "x1", NOW),
        Lease(f"{MODEL}/staging", None, 1, "x1", NOW),
        Observation(f"{MODEL}/production", "1", "1", [], None, NOW),
        Rollback("b-1", MODEL, Environment.PRODUCTION, "bob", NOW, state=RunState.DONE),
        LeaderLease("executor", "x1", 4711, 1.0, NOW),
    )

    shown = api.send("GET", "/api/v1/status").json()

    assert shown["model"] == MODEL
    assert {name: found["version"] for name, found in shown["serving"].items()} == {"production": "1"}
    assert {name: seen["alias"] for name, seen in shown["observed"].items()} == {"production": "1"}
    assert [work["id"] for work in shown["unfinished"]] == ["p-1"]
    assert [lease["holder"] for lease in shown["leases"]] == ["p-1"]
    assert shown["policy"] == {"digest": policy().digest, "profile": "full"}
    assert shown["executor"] == {"heartbeat_at": NOW}


def test_a_maintenance_is_asked_for_shown_and_ended(api: Api) -> None:
    asked = api.send("POST", "/api/v1/maintenance", {"verb": "up"})
    assert (asked.status_code, asked.json()) == (202, {"id": "c-1"})
    add(api.records, Progress("s-1", "c-1", "waiting", "for p-12, which changes production", NOW))

    shown = api.send("GET", "/api/v1/maintenance/c-1").json()
    assert (shown["state"], shown["verb"], shown["requested_by"]) == ("requested", "up", "alice")
    assert [line["message"] for line in shown["steps"]] == ["for p-12, which changes production"]
    assert [work["id"] for work in api.send("GET", "/api/v1/status").json()["unfinished"]] == ["c-1"]

    ended = api.send("POST", "/api/v1/maintenance/c-1/end", {}, person="bob")
    assert (ended.status_code, ended.json()) == (202, {"id": "c-1"})
    assert api.send("GET", "/api/v1/maintenance/c-1").json()["end_asked_at"]
    assert [(entry.actor, entry.action) for entry in api.records.audit_trail()] == [
        ("alice", "maintenance"),
        ("bob", "maintenance.end"),
    ]


@pytest.mark.parametrize("body", [{}, {"verb": "destroy"}, {"verb": "up", "more": 1}])
def test_a_maintenance_names_its_verb(api: Api, body: dict[str, Any]) -> None:
    assert api.refuse("POST", "/api/v1/maintenance", body) == (422, "usage")


WORK = [
    ("evaluations", "e-1", Evaluation),
    ("promotions", "p-1", Promotion),
    ("rollbacks", "b-1", Rollback),
]


def store_work(records: SqlRecords, state: RunState) -> None:
    add(
        records,
        evaluation(report=None, state=state),
        promotion(state=state),
        Rollback("b-1", MODEL, Environment.PRODUCTION, "bob", NOW, state=state),
    )


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in answer.text.split("\n\n") if line]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize(("kind", "id", "_record"), WORK)
@pytest.mark.parametrize("state", [RunState.DONE, RunState.STOPPED])
def test_the_events_of_ended_work_are_its_state_and_the_end(
    api: Api, kind: str, id: str, _record: type, state: RunState
) -> None:
    store_work(api.records, state)

    (event,) = events_of(api.send("GET", f"/api/v1/{kind}/{id}/events"))

    assert event == api.send("GET", f"/api/v1/{kind}/{id}").json()


@pytest.mark.parametrize(("kind", "id", "record"), WORK)
def test_the_events_of_running_work_go_on_until_it_ends(api: Api, kind: str, id: str, record: Any) -> None:
    store_work(api.records, RunState.RUNNING)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(api.send, "GET", f"/api/v1/{kind}/{id}/events")
        for number, state in enumerate((RunState.RUNNING, RunState.DONE)):
            with api.records.write() as transaction:
                transaction.add(Progress(f"s-{number}", id, f"K{number}", "", NOW))
                transaction.change(transaction.get(record, id), state=state)
        events = events_of(answer.result(timeout=30))

    assert events[-1]["state"] == "done"
    assert [line["step"] for line in events[-1]["steps"]] == ["K0", "K1"]
    assert all(before != after for before, after in pairwise(events))


@pytest.mark.parametrize(("method", "path"), [route for route in GUARDED if "p-1" in route[1]])
def test_an_id_that_does_not_exist_is_refused_in_one_form(api: Api, method: str, path: str) -> None:
    assert api.refuse(method, path) == (400, "usage")


@pytest.mark.parametrize("id", ["x" * 5000, "p-1;DROP", "%00", "%ff", "..%2f..%2fetc", "p-1\u202e"])
def test_odd_ids_are_refused_and_shown_short(api: Api, id: str) -> None:
    answer = api.send("GET", f"/api/v1/promotions/{id}")

    assert answer.status_code in (400, 404)
    assert len(answer.content) < 600


@pytest.mark.parametrize("route", ["evaluations", "promotions"])
def test_a_version_that_is_not_registered_is_not_found(api: Api, route: str) -> None:
    answer = api.send("POST", f"/api/v1/{route}", {"version": "99"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_version")
    assert api.records.audit_trail() == []


@pytest.mark.parametrize("route", ["evaluations", "promotions"])
def test_a_registry_that_is_down_is_503_and_nothing_is_written(api: Api, route: str) -> None:
    api.versions.down = True

    answer = api.send("POST", f"/api/v1/{route}", {"version": "2"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "registry_unavailable")
    assert api.records.audit_trail() == []


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
    assert api.refuse("POST", f"/api/v1/{path}", body) == (422, "usage")
    assert api.records.audit_trail() == []


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("evaluations", b"not json"),
        ("evaluations", b""),
        ("evaluations", b'{"version": NaN}'),
        ("evaluations", b'{"version": "\\ud800"}'),
        ("evaluations", b'{"\\ud800": 1}'),
        ("evaluations", b"\xff\xfe\x00"),
        ("evaluations", b"[" * 100_000),
        ("approvals", b'{"version": "2", "approved": false, "reason": "\\ud800"}'),
        ("policy", b'{"policy": {"\\ud800": NaN}}'),
        ("policy", b'{"policy": NaN}'),
        ("policy", b'{"policy": {"profile": "\\ud800"}}'),
        ("policy", json.dumps({"policy": policy_body(**{"gates.accuracy.minimum": float("nan")})}).encode()),
        ("policy", json.dumps({"policy": policy_body(**{"gates.accuracy.minimum": float("inf")})}).encode()),
        ("policy", json.dumps({"policy": policy_body(**{"gates.accuracy.minimum": 10**400})}).encode()),
    ],
)
def test_what_is_no_proper_json_is_refused_and_never_a_failure(api: Api, path: str, content: bytes) -> None:
    wait_for_people(api.records)

    answer = api.send("POST", f"/api/v1/{path}", content=content, headers={"content-type": "application/json"})

    assert answer.status_code in (400, 422)
    assert set(answer.json()["error"]) == {"code", "message", "next"}
    assert len(answer.content) < 2000
    assert (api.records.audit_trail(), len(api.records.find(PolicyChange))) == ([], 1)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"override_gates": ["accuracy"]}, "gates and a reason"),
        ({"override_reason": "why"}, "gates and a reason"),
        ({"override_reason": "why", "override_gates": ["digest"]}, "'digest' can't be overridden"),
    ],
)
def test_an_override_that_can_not_be_is_refused(api: Api, body: dict[str, Any], named: str) -> None:
    answer = api.send("POST", "/api/v1/promotions", {"version": "2", **body})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "usage")
    assert named in answer.json()["error"]["message"]


def test_an_illegal_policy_is_refused_by_its_key(api: Api) -> None:
    answer = api.send("POST", "/api/v1/policy", {"policy": {**policy_body(), "gatse": {}}})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "policy_invalid")
    assert "gatse" in answer.json()["error"]["message"]


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
