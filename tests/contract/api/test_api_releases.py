"""Who served what when."""

from pipelines.domain.promotion import ReleaseState
from pipelines.domain.release import Environment
from pipelines.operator.tables import history_table
from tests.support.world.api import Api
from tests.support.world.records import add, release


def test_releases_tell_who_served_what_when(api: Api) -> None:
    add(api.records, release("r-1", state=ReleaseState.SUPERSEDED), release("r-2", environment=Environment.STAGING))

    everything = api.get("releases")["releases"]
    staging = api.send("GET", "/api/v1/releases", params={"environment": "staging"}).json()["releases"]

    assert [(found["id"], found["state"]) for found in everything] == [("r-1", "superseded"), ("r-2", "serving")]
    assert [found["id"] for found in staging] == ["r-2"]


def test_the_last_thousand_releases_are_listed_and_older_ones_are_asked_for(api: Api) -> None:
    served = [release(f"r-{number}", state=ReleaseState.SUPERSEDED) for number in range(1, 1003)]
    add(api.records, *served)

    newest = api.get("releases")
    older = api.get("releases", before=newest["releases"][0]["id"])

    assert ([found["id"] for found in newest["releases"]], newest["more"]) == ([r.id for r in served[2:]], True)
    assert ([found["id"] for found in older["releases"]], older["more"]) == (["r-1", "r-2"], False)
    assert "older ones are not shown: GET /api/v1/releases?before=r-3" in history_table(newest)
    assert "older ones" not in history_table(older)
    assert api.refuse("GET", "/api/v1/releases?before=r-9999") == (400, "usage")
