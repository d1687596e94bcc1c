"""Who served what when."""

from pipelines.domain.promotion import ReleaseState
from pipelines.domain.release import Environment
from tests.support.world.api import Api
from tests.support.world.records import add, release


def test_releases_tell_who_served_what_when(api: Api) -> None:
    add(api.records, release("r-1", state=ReleaseState.SUPERSEDED), release("r-2", environment=Environment.STAGING))

    everything = api.get("releases")["releases"]
    staging = api.send("GET", "/api/v1/releases", params={"environment": "staging"}).json()["releases"]

    assert [(found["id"], found["state"]) for found in everything] == [("r-1", "superseded"), ("r-2", "serving")]
    assert [found["id"] for found in staging] == ["r-2"]
