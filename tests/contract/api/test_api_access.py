"""Who gets in: nobody without a token, whatever the path, the method or the body."""

import pytest

from tests.support.world.api import GUARDED, OPEN, TOKENS, Api
from tests.support.world.records import MODEL

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def test_the_route_table_is_the_documented_one() -> None:
    resources = {path.split("/")[3] for _, path in GUARDED}

    documented = "versions evaluations promotions approvals releases rollbacks policy audit status maintenance archives"
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
    assert list(api.records.audit_trail()) == []


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
