"""Whether an engine may push to an image registry that others run, asked of a real one before anything is made."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import httpx
import pytest

from pipelines.adapters.images.external_registry import ExternalRegistry
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import UsageError
from tests.support.containers.elsewhere import USER, ImageRegistry, image_registry
from tests.support.containers.engine import ENGINE_URL, FIRST_BUILD_S

pytestmark = pytest.mark.timeout(FIRST_BUILD_S)


@contextmanager
def registry(engine: docker.DockerClient, images: dict[str, str], home: Path, **env: str) -> Iterator[ImageRegistry]:
    """A registry on loopback, where an engine wants no certificate."""
    with image_registry(engine, images["image_registry"], home, host="127.0.0.1", **env) as made:
        yield made


def enter(made: ImageRegistry, image: str, password: str = "") -> None:
    known = DockerEngine(ENGINE_URL, 120.0)
    try:
        place = ExternalRegistry(f"{made.address}/team")
        place.enter(json.dumps(made.config(password)), image, known)
    finally:
        known.close()


def tags(made: ImageRegistry, name: str) -> list[str]:
    url = f"http://{made.address}/v2/team/slipway/{name}/tags/list"
    answer = httpx.get(url, auth=(USER, made.password), trust_env=False)
    return list(answer.json().get("tags", []))


def test_a_login_that_may_push_is_taken_for_the_app_and_for_releases(
    engine: docker.DockerClient, images: dict[str, str], tmp_path: Path
) -> None:
    with registry(engine, images, tmp_path) as made:
        enter(made, images["app"])
        tag = images["app"].removeprefix("sha256:")[:12]
        assert (tags(made, "app"), tags(made, "release")) == ([tag], [tag])


def test_a_login_that_is_not_known_there_is_refused(
    engine: docker.DockerClient, images: dict[str, str], tmp_path: Path
) -> None:
    with registry(engine, images, tmp_path) as made:
        with pytest.raises(UsageError, match=f"{made.address}/team can't be used.*401 Unauthorized") as refused:
            enter(made, images["app"], "another")
        assert "SLIPWAY_REGISTRY_LOGIN" in refused.value.next and "slipway/release" in refused.value.next
        assert tags(made, "app") == []


def test_a_registry_that_takes_no_image_is_refused(
    engine: docker.DockerClient, images: dict[str, str], tmp_path: Path
) -> None:
    with registry(engine, images, tmp_path, REGISTRY_STORAGE_MAINTENANCE_READONLY="{enabled: true}") as made:
        with pytest.raises(UsageError, match=f"{made.address}/team can't be used") as refused:
            enter(made, images["app"])
        assert "may pull and push" in refused.value.next


def test_a_registry_that_does_not_answer_is_refused(
    engine: docker.DockerClient, images: dict[str, str], tmp_path: Path
) -> None:
    with registry(engine, images, tmp_path) as made:
        pass
    with pytest.raises(UsageError, match=r"can't be used.*connection refused"):
        enter(made, images["app"])
