"""An installation whose object store and image registry others run: refused until these are ready, used, and left."""

import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from pipelines.adapters.storage.object_store import connect
from tests.e2e.containers import Containers
from tests.e2e.installation import clone
from tests.support.containers.elsewhere import (
    ImageRegistry,
    Owner,
    image_registry,
    outer_address,
    trusted_by_the_engine,
    write_certificate,
    write_private,
)
from tests.support.containers.engine import FIRST_BUILD_S
from tests.support.containers.needs import skip_without_containers
from tests.support.servers.object_store import ContainerMinio

pytestmark = pytest.mark.timeout(FIRST_BUILD_S)


class Elsewhere(Containers):
    """An installation, its owner's store and registry, and the operator's files about them."""

    def __init__(
        self, directory: Path, engine: docker.DockerClient, owner: Owner, registry: ImageRegistry, *, authority: Path
    ) -> None:
        super().__init__(directory, engine, tree=clone(directory / "project"))
        self.owner = owner
        self.registry = registry
        self.files = directory
        self.authority = authority

    def choose(self, **more: Any) -> None:
        """Write where they are, and what more is chosen, into the home."""
        authority = self.authority
        store = self.owner.made
        place = {"endpoint": store.server.root.endpoint, "authority": str(authority), "buckets": vars(store.buckets)}
        chosen = {
            "object_store": place,
            "image_registry": {"address": f"{self.registry.address}/team", "authority": str(authority)},
            "retention_days": 1,
            **more,
        }
        (self.home / "infra.json").write_text(json.dumps(chosen))

    def forget_image(self, service: str) -> None:
        """Remove the name by which a service's image is known on this node."""
        self._engine.api.remove_image(self.image(service), force=True)

    def given(self, *, password: str = "") -> dict[str, str]:
        """Write the keys and the login as they are now; return the variables that name them."""
        keys = write_private(self.files / "keys.json", self.owner.keys())
        login = write_private(self.files / "config.json", self.registry.config(password))
        return {"SLIPWAY_S3_KEYS": str(keys), "SLIPWAY_REGISTRY_LOGIN": str(login)}

    def objects(self, bucket: str) -> list[str]:
        """Return the keys in one of the buckets."""
        listed = connect(self.owner.made.server.root).list_objects_v2(Bucket=bucket)
        return [each["Key"] for each in listed.get("Contents", [])]

    def refused(self, *words: str, **environ: str) -> str:
        """Run a verb that has to be refused; return what it says."""
        ended = self.slipway(*words, **environ)
        assert ended.returncode == 2, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def elsewhere(
    engine: docker.DockerClient, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Elsewhere]:
    """All of it, with nothing brought up yet."""
    if not shutil.which("terraform"):
        skip_without_containers("no terraform on the path")
    place = tmp_path_factory.mktemp("elsewhere")
    host = outer_address(engine)
    certificates = write_certificate(place / "certificates", host)
    authority = certificates / "public.crt"
    server = ContainerMinio(engine, images["minio"], place, host=host, certificates=certificates)
    try:
        server.start()
        registry = image_registry(engine, images["image_registry"], place, host=host, certificates=certificates)
        with registry as running, trusted_by_the_engine(running.address, authority):
            made = Elsewhere(place, engine, Owner(server), running, authority=authority)
            made.choose()
            try:
                yield made
            finally:
                made.remove()
    finally:
        server.remove()


def test_it_is_not_begun_before_both_are_ready(elsewhere: Elsewhere) -> None:
    assert "SLIPWAY_S3_KEYS" in elsewhere.refused("up")
    given = elsewhere.given(password="another")
    assert "SLIPWAY_REGISTRY_LOGIN" in elsewhere.refused("up", **given | {"SLIPWAY_REGISTRY_LOGIN": ""})
    elsewhere.owner.rights["mlflow"]["Statement"][1]["Action"].remove("s3:PutObject")
    elsewhere.owner.allow("mlflow")
    assert f"may not write to {elsewhere.owner.made.buckets.artifacts} (AccessDenied)" in elsewhere.refused(
        "up", **given
    )
    elsewhere.owner.rights["mlflow"]["Statement"][1]["Action"].append("s3:PutObject")
    elsewhere.owner.allow("mlflow")
    told = elsewhere.refused("up", **given)
    assert f"the image registry {elsewhere.registry.address}/team can't be used" in told and "401 Unauthorized" in told
    assert elsewhere.left() == []


def test_it_comes_up_without_its_own_and_keeps_no_key_where_terraform_sees_it(elsewhere: Elsewhere) -> None:
    elsewhere.done("up", **elsewhere.given())
    assert elsewhere.health("production")["status"] == "no release"
    assert elsewhere.plan() == ""
    running = {name.partition(".")[0].removeprefix(f"/{elsewhere.prefix}-") for name in elsewhere.containers()}
    assert {"mlflow", "executor", "edge"} <= running and not {"minio", "images"} & running
    assert elsewhere.objects(elsewhere.owner.made.buckets.heads)
    work = elsewhere.home / "terraform"
    seen = "".join(path.read_text(errors="replace") for path in work.rglob("*.tf*") if path.is_file())
    values = [key["secret_key"] for key in elsewhere.owner.keys().values()]
    assert [value for value in [*values, elsewhere.registry.password] if value in seen] == []


def test_a_version_goes_to_production_and_its_data_to_the_owners_buckets(elsewhere: Elsewhere) -> None:
    elsewhere.apply_policy()
    version = elsewhere.first_version()
    assert elsewhere.health("production")["version"] == version
    served = f"{elsewhere.registry.address}/team/slipway/release@sha256:"
    assert elsewhere.image("production-live").startswith(served)
    elsewhere.done("data", "push")
    buckets = elsewhere.owner.made.buckets
    assert elsewhere.objects(buckets.dvc) and any("model.onnx" in key for key in elsewhere.objects(buckets.artifacts))
    assert all(each["holds"] for each in elsewhere.read("doctor")["invariants"] if each.get("measurable", True))
    assert elsewhere.plan() == ""


def test_other_keys_are_put_in_force_by_up_and_rotated_by_their_owner_alone(elsewhere: Elsewhere) -> None:
    told = elsewhere.refused("secrets", "rotate", "audit-objects-password")
    assert "made by the owner" in told
    made, heads = elsewhere.owner.made, elsewhere.owner.made.buckets.heads
    made.access = {name: replace(each, secret_key=secrets.token_hex(16)) for name, each in made.access.items()}
    for client in made.access:
        elsewhere.owner.allow(client)
    before = len(elsewhere.objects(heads))
    elsewhere.choose(environments={"production": {"replicas": 2, "memory_mb": 320}, "staging": {}})
    elsewhere.done("up", **elsewhere.given())
    assert len(elsewhere.objects(heads)) > before
    elsewhere.done("data", "pull")
    # Terraform has changed production's service, and a replica can still pull what its node has no more.
    elsewhere.forget_image("production-live")
    known = elsewhere.running("production-live")
    elsewhere.kill_one("production-live")
    elsewhere.wait_for(lambda: len(elsewhere.running("production-live") - known) == 1, "a new replica")
    # What was given once is kept.
    elsewhere.done("up")
    assert elsewhere.plan() == ""


def test_neither_is_changed_for_another(elsewhere: Elsewhere) -> None:
    file = elsewhere.home / "infra.json"
    chosen = file.read_text()
    try:
        file.write_text("{}")
        assert "of this installation is" in elsewhere.refused("up")
    finally:
        file.write_text(chosen)


def test_destroy_leaves_what_is_its_owners(elsewhere: Elsewhere) -> None:
    buckets = vars(elsewhere.owner.made.buckets)
    before = {name: elsewhere.objects(name) for name in buckets.values()}
    ended = elsewhere.slipway("destroy", "--confirm", "yes")
    assert ended.returncode == 0, ended.stderr
    assert f"left for its owner: the buckets {', '.join(buckets.values())}" in ended.stderr
    assert elsewhere.left() == []
    assert all(set(before[name]) <= set(elsewhere.objects(name)) for name in before) and all(before.values())
