"""Requests made from the service's own description: none is answered by a failure."""

import httpx

from tests.support.world.generated import send_generated
from tests.support.world.replicas import ReplicaProcess


def test_no_generated_request_makes_the_service_fail(client: httpx.Client, replica: ReplicaProcess) -> None:
    before = client.get("/ready").json()
    failed = send_generated(client.get("/openapi.json").json(), replica.url)
    # The model of these tests fails on one region, which its description allows.
    assert [each for each in failed if "atlantis" not in each] == []
    assert client.get("/ready").json() == before
