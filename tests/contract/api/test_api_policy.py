"""The policy in force, and changing it."""

from pathlib import Path

from pipelines.adapters.database.records import SqlRecords
from pipelines.api.app import create_app
from pipelines.api.state import ApiState
from tests.support.world.api import TOKENS, Api
from tests.support.world.fakes import FakeCheckpoints, FakeVersions
from tests.support.world.records import MODEL, NOW, policy, policy_body


def test_a_policy_is_asked_for_and_the_one_in_force_is_shown(api: Api) -> None:
    body = policy_body(**{"gates.accuracy.minimum": 0.9})

    answer = api.ask("policy", {"policy": body})

    change = answer.json()
    assert (answer.status_code, change["digest"]) == (202, policy(**{"gates.accuracy.minimum": 0.9}).digest)
    assert api.get(f"policy/{change['id']}")["state"] == "requested"
    in_force = api.get("policy")
    assert (in_force["digest"], in_force["applied_by"], in_force["at"]) == (policy().digest, "alice", NOW)


def test_before_the_first_policy_none_is_shown(tmp_path: Path) -> None:
    records = SqlRecords(f"sqlite:///{tmp_path / 'bare.db'}", FakeCheckpoints())
    bare = Api(create_app(ApiState(records, FakeCheckpoints(), FakeVersions(), MODEL, TOKENS)), records, FakeVersions())
    try:
        assert bare.send("GET", "/api/v1/policy").json() == {"policy": None}
        assert bare.send("GET", "/api/v1/status").json()["policy"] == {"digest": None, "profile": None}
    finally:
        records.close()


def test_an_illegal_policy_is_refused_by_its_key(api: Api) -> None:
    answer = api.ask("policy", {"policy": {**policy_body(), "gatse": {}}})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "policy_invalid")
    assert "gatse" in answer.json()["error"]["message"]


def test_more_approvals_than_people_can_give_are_refused(api: Api) -> None:
    possible = len(TOKENS) - 1
    answer = api.ask("policy", {"policy": policy_body(**{"approvals.count": possible + 1})})

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "policy_invalid")
    assert f"approvals.count is {possible + 1}" in answer.json()["error"]["message"]
    assert api.ask("policy", {"policy": policy_body(**{"approvals.count": possible})}).status_code == 202
