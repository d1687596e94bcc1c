"""What the API answers about registered versions."""

from tests.support.world.api import Api
from tests.support.world.records import MODEL


def test_versions_are_listed_newest_first(api: Api) -> None:
    answer = api.get("versions")

    assert answer["model"] == MODEL
    assert [version["version"] for version in answer["versions"]] == ["3", "2", "1"]
