"""What the API answers about registered versions."""

import pytest

from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.figures import Figures, Line
from pipelines.domain.report import Report
from tests.support.world.api import Api
from tests.support.world.records import MODEL, add, evaluation, policy, release, report


def test_versions_are_listed_newest_first(api: Api) -> None:
    answer = api.get("versions")

    assert answer["model"] == MODEL
    assert [version["version"] for version in answer["versions"]] == ["3", "2", "1"]
    assert not answer["more"]


def test_older_ones_are_asked_for_by_a_version(api: Api) -> None:
    assert [version["version"] for version in api.get("versions", before=3)["versions"]] == ["2", "1"]


@pytest.mark.parametrize("before", ["0", "-1", "x", "1 or 1=1", "9" * 30])
def test_what_is_no_version_is_refused(api: Api, before: str) -> None:
    assert api.refuse("GET", f"/api/v1/versions?before={before}") == (422, "usage")


def test_the_report_of_a_version_is_the_one_that_was_written_last(api: Api) -> None:
    older, newer = report(policy=policy()), report(policy=policy(), champion=release("r-1", "1"))
    unmeasured = [evaluation(f"e-{number}", report=None) for number in range(3, 30)]
    add(api.records, evaluation("e-1", report=older), evaluation("e-2", report=newer), *unmeasured)

    answer = api.get("versions/2/report")

    assert (answer["evaluation_id"], answer["report_digest"]) == ("e-2", digest_of(canonical(newer)))
    assert Report.read(answer["report"]).as_json() == newer


def test_figures_come_with_the_report_to_its_digest(api: Api) -> None:
    drawn = Report.read(report(policy=policy())).model_copy(
        update={"figures": Figures(rows=2, roc=(Line(x=(0.0, 1.0), y=(0.0, 1e-30)),)), "classes": ("a", "b")}
    )
    add(api.records, evaluation(report=drawn.as_json()))

    answer = api.get("versions/2/report")

    assert Report.read(answer["report"]).digest == answer["report_digest"]


@pytest.mark.parametrize(
    ("version", "refusal", "named"),
    [
        ("1", (400, "usage"), 'measure it: "make deploy-staging VERSION=1"'),
        ("99", (404, "unknown_version"), ""),
        ("x", (400, "usage"), "give the number"),
        ("1%00", (400, "usage"), "give the number"),
        ("..%2f1", (404, "usage"), "see /docs for the routes"),
    ],
)
def test_a_version_without_a_report_is_refused_with_what_to_do(
    api: Api, version: str, refusal: tuple[int, str], named: str
) -> None:
    answer = api.send("GET", f"/api/v1/versions/{version}/report")

    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == refusal
    assert named in error["next"]


def test_the_report_of_another_models_version_is_not_shown(api: Api) -> None:
    add(api.records, evaluation(report=report(policy=policy())))

    answer = api.send("GET", "/api/v1/versions/2/report", params={"model": "other"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_model")


def test_a_report_is_shown_while_the_registry_is_away(api: Api) -> None:
    add(api.records, evaluation(report=report(policy=policy())))
    api.versions.down = True

    assert api.get("versions/2/report")["evaluation_id"] == "e-1"
    answer = api.send("GET", "/api/v1/versions/1/report")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "registry_unavailable")
