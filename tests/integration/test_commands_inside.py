"""A command inside of a real container: what it writes, how it ended, and that it has an end."""

from collections.abc import Iterator

import docker
import pytest
from testcontainers.core.labels import SESSION_ID

from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import TargetUnavailable
from tests.support.containers.load_jobs import ENGINE_URL


@pytest.fixture(scope="module")
def name(engine: docker.DockerClient, images: dict[str, str]) -> Iterator[str]:
    container = engine.containers.run(
        images["control"],
        ["sleep", "600"],
        name=f"inside-{SESSION_ID[:8]}",
        entrypoint=[],
        init=True,
        network_mode="none",
        detach=True,
    )
    try:
        yield str(container.name)
    finally:
        container.remove(force=True)


def test_a_command_says_what_it_wrote_and_how_it_ended(name: str) -> None:
    engine = DockerEngine(ENGINE_URL)
    assert engine.run_inside(name, ["sh", "-c", "echo told; echo wrong >&2; exit 3"]) == (3, "told\n")
    assert engine.run_inside(name, ["sh", "-c", "echo wrong >&2"]) == (0, "wrong\n")


def test_a_command_that_does_not_end_is_cut_off_at_its_limit(name: str) -> None:
    kept: list[bytes] = []
    with pytest.raises(TargetUnavailable, match=f"{name}: sh was cut off"):
        DockerEngine(ENGINE_URL).stream_inside(name, ["sh", "-c", "echo told; sleep 60"], kept.append, limit_s=1)
    assert b"".join(kept) == b"told\n"
