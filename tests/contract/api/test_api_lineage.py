"""What the API answers about lineage, in both directions."""

from typing import Any

import pytest

from pipelines.domain.events import EventKind
from pipelines.domain.records import PinnedVersion
from pipelines.domain.release import Environment
from pipelines.governance.lineage import trace
from tests.support.world.api import Api
from tests.support.world.records import MODEL, NOW, add, approval, bundle_digest, evaluation, policy, promotion, release
from tests.support.world.records import report as report_of

RUN, COMMIT = "3" * 32, "c0ffee0" + "1" * 33
IMAGE = f"127.0.0.1:5000/slipway/release@sha256:{'9' * 64}"
APP = f"127.0.0.1:5000/slipway/app@sha256:{'8' * 64}"


def sha(digit: str) -> str:
    return f"sha256:{digit * 64}"


def provenance(**changes: Any) -> dict[str, Any]:
    made = {
        "run_id": RUN,
        "git_commit": COMMIT,
        "datasets": {"train": sha("a"), "evaluation": sha("b"), "training_rows": sha("d"), "reference": sha("f")},
        "dependencies": sha("e"),
    }
    return {**made, **changes}


def pin(api: Api, version: str, came_from: dict[str, Any] | None, *, model: str = MODEL) -> None:
    pinned = PinnedVersion(f"{model}/{version}", model, version, bundle_digest(version), sha("b"), NOW)
    add(api.records, pinned)
    if came_from:
        with api.records.write() as transaction:
            trace(transaction, pinned, came_from)
            trace(transaction, pinned, provenance(git_commit="never"))


@pytest.fixture
def traced(api: Api) -> Api:
    """An API that knows two versions of a model and one of another; version 2 serves production."""
    pin(api, "1", provenance(run_id="4" * 32, git_commit="c0ffee0" + "2" * 33))
    pin(api, "2", provenance())
    pin(api, "3", provenance(run_id="5" * 32, datasets={"train": None, "evaluation": sha("b")}), model="other-model")
    made = {
        **report_of(policy=policy()),
        "gates_digest": sha("7"),
        "evalset_digest": sha("b"),
        "evalsets": {"hard_cases": sha("1"), "again": sha("b")},
    }
    yes = approval({**evidence_of_release(made), "champion_release": None})
    other = evaluation("e-2", "3", report={**made, "evalset_digest": sha("2"), "evalsets": None}, model="other-model")
    add(api.records, evaluation(report=made), other, promotion(), yes, release("r-7", "2"))
    add(api.records, evaluation("e-3", "1", report=None))
    with api.records.write() as transaction:
        detail = {"version": "2", "environment": Environment.PRODUCTION, "image": IMAGE, "app_image": APP}
        transaction.emit(EventKind.VERSION_RELEASED, subject="r-7", model=MODEL, detail=detail)
    return api


def evidence_of_release(report: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": MODEL, "version": "2", "environment": "production", "bundle_digest": bundle_digest("2"),
        "report_digest": sha("6"), "policy_digest": report["policy_digest"],
    }  # fmt: skip


def versions(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["model"], each["version"]) for each in answer["versions"]]


def test_a_version_is_traced_to_all_that_it_comes_of_and_all_that_came_of_it(traced: Api) -> None:
    answer = traced.get("lineage/2", model=MODEL)

    (version,) = answer["versions"]
    assert version["is_traced"]
    origins = {origin["kind"]: origin["value"] for origin in version["origins"]}
    assert origins == {
        "run": RUN,
        "git commit": COMMIT,
        "training data": sha("a"),
        "hashes of training rows": sha("d"),
        "reference rows": sha("f"),
        "evaluation set": sha("b"),
        "set that judged it": sha("1"),
        "dependency set": sha("e"),
        "bundle": bundle_digest("2"),
        "image": IMAGE,
        "app image": APP,
    }
    (evidence,), (decision,), (released,) = (answer["history"][part] for part in ("evidence", "decisions", "releases"))
    assert (evidence["evaluation_id"], evidence["verdict"], evidence["gates_digest"]) == ("e-1", "passed", sha("7"))
    assert evidence["policy_digest"] == policy().digest
    assert evidence["evalsets"] == {"hard_cases": sha("1"), "again": sha("b")}
    assert (decision["person"], decision["approved"], decision["report_digest"]) == ("bob", True, sha("6"))
    assert (released["id"], released["image"], released["app_image"]) == ("r-7", IMAGE, APP)


@pytest.mark.parametrize(
    ("text", "kinds", "built"),
    [
        (COMMIT, ["git commit"], [(MODEL, "2"), ("other-model", "3")]),
        ("c0ffee01", ["git commit"], [(MODEL, "2"), ("other-model", "3")]),
        (sha("a"), ["training data"], [(MODEL, "1"), (MODEL, "2")]),
        ("sha256:bbbbbbb", ["evaluation set"], [(MODEL, "1"), (MODEL, "2"), ("other-model", "3")]),
        (sha("f"), ["reference rows"], [(MODEL, "1"), (MODEL, "2")]),
        (sha("1"), ["set that judged it"], [(MODEL, "2")]),
        ("2222222", ["set that judged it"], [("other-model", "3")]),
        ("9999999", ["image"], [(MODEL, "2")]),
        (APP.partition("@")[2], ["app image"], [(MODEL, "2")]),
        (bundle_digest("1"), ["bundle"], [(MODEL, "1")]),
        (RUN[:7], ["run"], [(MODEL, "2")]),
    ],
)
def test_what_a_hash_a_commit_or_an_image_has_become_is_found(
    traced: Api, text: str, kinds: list[str], built: list[tuple[str, str]]
) -> None:
    answer = traced.get(f"lineage/{text}")

    assert [origin["kind"] for origin in answer["meant"]] == kinds
    assert versions(answer) == built
    assert (answer["history"], answer["more"]) == (None, False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("9", "version 9 of toy-model was never measured"),
        ("c0ffee0", "may mean git commit c0ffee0"),
        ("c0ffee", "at least 7 digits"),
        ("dddddde", "no version that was measured here comes of"),
        ("123456789", "no version that was measured here comes of"),
        ("production", "is no version"),
        ("%00", "is no version"),
    ],
)
def test_what_is_unknown_or_may_mean_several_is_refused(traced: Api, text: str, said: str) -> None:
    answer = traced.send("GET", f"/api/v1/lineage/{text}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "usage")
    assert said in answer.json()["error"]["message"]


def test_of_a_set_each_version_says_whether_it_comes_of_it_or_was_only_judged_by_it(traced: Api) -> None:
    named = {**report_of("1", policy=policy()), "evalset_digest": sha("b"), "evalsets": {"recent": sha("2")}}
    brought = provenance(datasets={"train": sha("a"), "evaluation": sha("2")})
    pin(traced, "4", brought)
    add(traced.records, evaluation("e-4", "1", report=named))

    answer = traced.get(f"lineage/{sha('2')}")

    related = {
        (each["model"], each["version"]): [origin["kind"] for origin in each["origins"] if origin["value"] == sha("2")]
        for each in answer["versions"]
    }
    assert related == {
        (MODEL, "1"): ["set that judged it"],
        ("other-model", "3"): ["set that judged it"],
        (MODEL, "4"): ["evaluation set"],
    }
    assert sorted(origin["kind"] for origin in answer["meant"]) == ["evaluation set", "set that judged it"]


def test_a_version_whose_bundle_was_removed_before_says_that_it_is_not_traced(api: Api) -> None:
    pin(api, "1", None)

    (version,) = api.get("lineage/1")["versions"]

    assert not version["is_traced"]
    assert [origin["kind"] for origin in version["origins"]] == ["bundle", "evaluation set"]
