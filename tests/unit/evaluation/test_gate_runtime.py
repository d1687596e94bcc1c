"""The gates over what a replica says that it runs with: staging like production, and no more memory than it may."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.domain.description import Golden
from pipelines.domain.policy import Policy
from pipelines.domain.release import Environment, Release
from pipelines.domain.sections import Profile
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import DeployFailed, PolicyInvalid
from pipelines.evaluation.gates.registry import GATES
from pipelines.evaluation.gates.service.environment import ENVIRONMENT
from pipelines.evaluation.gates.service.resources import RESOURCES
from pipelines.evaluation.gates.service.world import Service
from pipelines.ports import HttpReply
from tests.support.world.fakes import FakeLoadRunner
from tests.support.world.records import policy
from tests.support.world.world import policy_body, runtime_said

STAGING, PRODUCTION = "http://127.0.0.1:9", "http://127.0.0.1:8"
RELEASE = Release("trial-e-1", "toy-model", Environment.STAGING, "2", "sha256:b")


class Replicas:
    """Answers as replicas of both environments do, by their addresses."""

    def __init__(self, staging: Any = None, production: Any = None) -> None:
        self._said = {STAGING: staging or runtime_said(), PRODUCTION: production or runtime_said()}

    def get(self, url: str) -> HttpReply:
        said = self._said[url.removesuffix("/runtime")]
        if isinstance(said, Exception):
            raise said
        return said if isinstance(said, HttpReply) else HttpReply(200, said, {})

    def post(self, url: str, content: bytes, headers: dict[str, str], *, timeout_s: float | None = None) -> HttpReply:
        raise AssertionError(url)


def service(probe: Replicas, *, production: str | None = PRODUCTION, start_s: float | None = 2.0) -> Service:
    return Service(
        url=STAGING,
        release=RELEASE,
        golden=Golden(rows=(), expected=(), tolerance=1e-5),
        profile=Profile.FULL,
        rows=[],
        probe=probe,
        loads=FakeLoadRunner(),
        releases=list,
        workdir=Path(),
        start_s=start_s,
        production=production,
    )


def compared(staging: Any = None, production: Any = None, limits: Policy | None = None) -> GateResult:
    (result,) = ENVIRONMENT.results(service(Replicas(staging, production)), limits or policy())
    return result


def with_section(gate: str, **limits: Any) -> Policy:
    body = policy_body()
    body["gates"][gate] = limits
    return GATES.read_policy(body)


def test_a_staging_that_is_like_production_passes() -> None:
    result = compared(staging=runtime_said(peak_memory_bytes=1))
    assert (result.verdict, result.message) == (Verdict.PASSED, "PASS environment: staging is like production")


def test_what_a_release_brings_with_it_may_differ_and_is_shown() -> None:
    result = compared(runtime_said(code="sha256:d", packages={"onnxruntime": "1.32.0"}))
    assert result.verdict is Verdict.PASSED
    assert result.message == "PASS environment: staging differs from production in code, packages, which it may"
    assert result.table is not None
    assert result.table.rows[1] == ("packages", "onnxruntime", "1.32.0", "1.31.0", "yes")


@pytest.mark.parametrize(
    ("part", "change", "told"),
    [
        (
            "settings",
            {"settings": ["SLIPWAY_DEBUG", "SLIPWAY_STAGE"]},
            "settings SLIPWAY_DEBUG: set, in production none",
        ),
        (
            "limits",
            {"limits": {"memory_bytes": 2.0**31}},
            "memory_bytes: 2147483648.0, in production 1073741824.0",
        ),
        ("network", {"network": ["lo"]}, "network eth0: none, in production there"),
        ("secrets", {"secrets": ["key"]}, "secrets key: there, in production none"),
        ("user", {"user": 0}, "user user: 0, in production 1000"),
    ],
)
def test_anything_else_that_differs_stops_the_version_unless_the_policy_allows_it(
    part: str, change: dict[str, Any], told: str
) -> None:
    result = compared(runtime_said(**change))
    assert result.verdict is Verdict.FAILED
    assert told in result.message
    allowed = with_section("environment", may_differ=[part])
    assert compared(runtime_said(**change), limits=allowed).verdict is Verdict.PASSED
    assert compared(runtime_said(**change, code="sha256:d"), limits=allowed).verdict is Verdict.FAILED


def test_an_interface_that_comes_and_goes_in_a_network_that_both_share_is_no_difference() -> None:
    shared = {"network_namespace": "sha256:host"}
    here, there = runtime_said(**shared), runtime_said(**shared, network=["eth0", "lo", "veth1"])
    assert compared(here, there).message == "PASS environment: staging is like production"


def test_networks_of_different_namespaces_are_compared_by_their_interfaces() -> None:
    here = runtime_said(network_namespace="sha256:a", network=["lo"])
    there = runtime_said(network_namespace="sha256:b")
    assert "network eth0: none, in production there" in compared(here, there).message


def test_a_policy_that_allows_what_is_no_part_is_refused() -> None:
    with pytest.raises(PolicyInvalid, match=r"may_differ\[0\]"):
        with_section("environment", may_differ=["luck"])


def test_without_production_or_with_one_of_an_earlier_slipway_it_does_not_apply() -> None:
    (none,) = ENVIRONMENT.results(service(Replicas(), production=None), policy())
    assert (none.verdict, "nothing serves production" in none.message) == (Verdict.NOT_APPLICABLE, True)
    earlier = compared(production=HttpReply(404, None, {}))
    assert (earlier.verdict, "earlier Slipway" in earlier.message) == (Verdict.NOT_APPLICABLE, True)


@pytest.mark.parametrize(
    "said",
    [DeployFailed("away"), HttpReply(500, {}, {}), {"code": 1}, HttpReply(200, None, {}), runtime_said(settings="all")],
)
def test_what_could_not_be_compared_or_measured_is_an_error(said: Any) -> None:
    assert compared(production=said).verdict is Verdict.ERROR
    assert compared(staging=said).verdict is Verdict.ERROR
    memory, start = RESOURCES.results(service(Replicas(said)), policy())
    assert (memory.verdict, start.verdict) == (Verdict.ERROR, Verdict.PASSED)


def test_a_replica_in_staging_that_does_not_tell_is_an_error_since_it_is_of_this_slipway() -> None:
    silent = HttpReply(404, None, {})
    assert compared(staging=silent).verdict is Verdict.ERROR
    assert RESOURCES.results(service(Replicas(silent)), policy())[0].verdict is Verdict.ERROR


@pytest.mark.parametrize(
    ("memory_mib", "start_s", "verdicts"),
    [
        (512, 60.0, (Verdict.PASSED, Verdict.PASSED)),
        (513, 60.0, (Verdict.FAILED, Verdict.PASSED)),
        (70, 60.1, (Verdict.PASSED, Verdict.FAILED)),
        (70, None, (Verdict.PASSED, Verdict.ERROR)),
    ],
)
def test_memory_and_start_are_judged_by_their_limits(
    memory_mib: int, start_s: float | None, verdicts: tuple[Verdict, Verdict]
) -> None:
    asked = service(Replicas(runtime_said(peak_memory_bytes=memory_mib * 2**20)), start_s=start_s)
    found = RESOURCES.results(asked, policy())
    assert tuple(each.verdict for each in found) == verdicts
    assert found[0].observed == memory_mib
