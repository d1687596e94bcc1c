"""What the API answers about the evaluation sets of a model."""

from typing import Any

import pytest

from pipelines.domain.promotion import RunState
from pipelines.domain.records import AddedSet, PinnedVersion
from tests.support.world.api import Api
from tests.support.world.records import (
    MODEL,
    NOW,
    add,
    bundle_digest,
    evaluation,
    policy,
    policy_body,
    put_in_force,
    release,
    report,
)


def sha(digit: str) -> str:
    return f"sha256:{digit * 64}"


@pytest.fixture
def known(api: Api) -> Api:
    """An API of which three versions have brought two sets; version 1 serves production."""
    for version, digest in (("1", sha("a")), ("2", sha("b")), ("3", sha("a"))):
        add(api.records, PinnedVersion(f"{MODEL}/{version}", MODEL, version, bundle_digest(version), digest, NOW))
    made = report(policy=policy())
    add(
        api.records,
        release("r-1", "1"),
        evaluation("e-1", "1", report={**made, "evalset_digest": sha("a")}),
        evaluation("e-2", "2", report={**made, "evalset_digest": sha("b"), "evalsets": {"old": sha("a")}}),
        evaluation("e-3", "3", report=None),
    )
    return api


def listed(api: Api) -> list[dict[str, Any]]:
    answer = api.get("evalsets")
    assert answer["model"] == MODEL
    return list(answer["evalsets"])


def test_sets_are_listed_with_who_brought_them_and_the_reports_that_name_them(known: Api) -> None:
    one, other = listed(known)

    assert (one["number"], one["digest"], one["version"], one["judged"]) == (1, sha("a"), "1", ["e-1", "e-2"])
    assert (other["number"], other["digest"], other["version"], other["judged"]) == (2, sha("b"), "2", ["e-2"])


@pytest.mark.parametrize(
    ("evaluation_section", "in_force", "named"),
    [
        ({"set": "newest"}, [True, False], [[], []]),
        ({"set": sha("b")}, [False, True], [[], []]),
        ({"set": sha("c")}, [False, False], [[], []]),
        ({"sets": {"hard": {"digest": sha("b")}, "more": {"digest": sha("b")}}}, [True, False], [[], ["hard", "more"]]),
    ],
)
def test_what_the_policy_makes_of_a_set_is_told(
    known: Api, evaluation_section: dict[str, Any], in_force: list[bool], named: list[list[str]]
) -> None:
    put_in_force(
        known.records, policy_body(**{f"evaluation.{key}": value for key, value in evaluation_section.items()})
    )

    found = listed(known)

    assert [each["in_force"] for each in found] == in_force
    assert [each["named"] for each in found] == named


def test_before_any_version_there_is_no_set(api: Api) -> None:
    assert listed(api) == []


RUN = "a" * 32
MINE = {"name": "hard_cases", "digest": sha("d"), "run_id": RUN}


def test_a_set_is_written_down_for_the_executor_and_audited(api: Api) -> None:
    answer = api.ask("evalsets", MINE)

    assert (answer.status_code, answer.json()) == (202, {"id": "s-1", "repeated": False})
    shown = api.get("evalsets/s-1")
    assert (shown["state"], shown["name"], shown["requested_by"]) == ("requested", "hard_cases", "alice")
    [entry] = [each for each in api.records.audit_trail() if each.action == "evalset.add"]
    assert (entry.actor, entry.phase, entry.detail) == ("alice", "intent", MINE)
    # Until the executor has read it, it is no set.
    assert listed(api) == []


def test_the_same_bytes_again_are_the_same_set_whoever_asks_and_by_whichever_name(api: Api) -> None:
    api.ask("evalsets", MINE)
    for state in (RunState.REQUESTED, RunState.RUNNING, RunState.DONE):
        with api.records.write() as transaction:
            transaction.change(transaction.get(AddedSet, "s-1"), state=state)

        again = api.ask("evalsets", {**MINE, "name": "others", "run_id": "b" * 32}, person="bob")

        assert again.json() == {"id": "s-1", "repeated": True}
    (kept,) = api.records.find(AddedSet)
    assert (kept.name, kept.requested_by, kept.run_id) == ("hard_cases", "alice", RUN)
    assert len([each for each in api.records.audit_trail() if each.action == "evalset.add"]) == 1


def test_a_set_that_was_stopped_may_be_asked_for_again(api: Api) -> None:
    add(api.records, AddedSet("s-1", MODEL, **MINE, requested_by="alice", created_at=NOW, state=RunState.STOPPED))

    assert api.ask("evalsets", MINE).json()["repeated"] is False


def test_added_sets_are_listed_with_who_added_them_when_and_by_which_name(known: Api) -> None:
    done = {"requested_by": "bob", "created_at": NOW, "state": RunState.DONE, "number": 3, "rows": 80, "ended_at": NOW}
    add(known.records, AddedSet("s-1", MODEL, **MINE, **done))  # type: ignore[arg-type]

    *brought, own = listed(known)

    assert [each["added"] for each in brought] == [None, None]
    assert (own["number"], own["version"]) == (3, None)
    assert own["added"] == {"name": "hard_cases", "rows": 80, "run_id": RUN, "person": "bob", "at": NOW}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Hard cases"},
        {"name": ""},
        {"digest": "sha256:1"},
        {"run_id": "../" + "a" * 29},
        {"run_id": "A" * 32},
        {"more": 1},
    ],
)
def test_what_names_no_set_is_refused(api: Api, changes: dict[str, Any]) -> None:
    body = {"model": MODEL, **MINE, **changes}

    assert api.refuse("POST", "/api/v1/evalsets", body)[0] == 422
    assert api.records.find(AddedSet) == []


def test_so_many_sets_may_wait_for_the_executor(api: Api) -> None:
    add(
        api.records,
        *(AddedSet(f"s-{n}", MODEL, "mine", f"sha256:{n}", RUN, "alice", NOW) for n in range(100)),
    )

    body = {"model": MODEL, **MINE}
    assert api.refuse("POST", "/api/v1/evalsets", body) == (409, "refused")
