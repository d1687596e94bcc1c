"""What the API answers about registered versions."""

import pytest

from tests.support.world.api import Api
from tests.support.world.records import MODEL


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
