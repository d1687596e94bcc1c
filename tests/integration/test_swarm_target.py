"""A Swarm under real load and real failures: what serves goes on, whatever happens to what was asked for."""

import copy
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from docker.errors import ImageNotFound

from bench.load.load_client import LoadClient, under_load
from pipelines.adapters.swarm.edge_socket import EdgeSocket
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.adapters.swarm.order import ServiceOrder
from pipelines.adapters.swarm.services import Spec, SwarmServices
from pipelines.adapters.swarm.tasks import Roll
from pipelines.domain.release import Endpoint, Environment, Phase, Release, RunsFrom, Slot, SlotState
from pipelines.errors import DeployFailed, LostLease, TargetUnavailable, UsageError
from tests.support.containers.swarm import (
    ENDPOINT,
    ENVIRONMENT,
    LABELS,
    Registry,
    SwarmEnvironment,
    crane,
    release,
    serve,
    settle,
)
from tests.support.world.bundles import make_bundle, valid_row
from tests.support.world.supervisors import eventually, free_port

ROLLS = 3
RATE_PER_S = 100


class World:
    """A target with bundles `a`, `b` and `broken` on running services."""

    def __init__(self, swarm: SwarmEnvironment, tmp_path: Path) -> None:
        made = [make_bundle(tmp_path / "bundles", seed=seed) for seed in (1, 2, 3)]
        model = made[2][0] / "model.onnx"
        model.write_bytes(model.read_bytes()[:-1])
        self.a, self.b, self.broken = (digest for _, digest in made)
        self.swarm = swarm
        self.home = tmp_path
        self.bundles = {digest: path for path, digest in made}
        self.target = swarm.target(self.bundles, tmp_path)

    def live(self) -> SlotState:
        return self.target.observe(ENDPOINT, Slot.LIVE)

    def serve(self, wanted: Release) -> None:
        state = serve(self.target, wanted)
        assert state.serves(wanted), state
        self.until_edge_serves(wanted.version)

    def until_edge_serves(self, version: str) -> None:
        """Wait until the edge has found the replicas, as clients see it."""
        client = LoadClient(self.swarm.edge_url, valid_row(), kept_per_s=40, new_per_s=1)

        def look() -> list[str]:
            with under_load(client) as load:
                time.sleep(0.5)
            seen = [seen for _, seen, _ in load.answers[-10:]] + load.failures
            load.failures.clear()
            return seen

        eventually(look, lambda seen: bool(seen) and set(seen) == {version})

    def load(self) -> LoadClient:
        return LoadClient(self.swarm.edge_url, valid_row(), kept_per_s=RATE_PER_S, new_per_s=10)

    def spec(self, slot: Slot = Slot.LIVE) -> dict[str, Any]:
        name = f"{self.swarm.prefix}-{ENVIRONMENT}-{slot}"
        return dict(self.swarm.engine.api.inspect_service(name)["Spec"])


@pytest.fixture
def world(swarm: SwarmEnvironment, tmp_path: Path) -> Iterator[World]:
    with swarm.services(replicas=2):
        yield World(swarm, tmp_path)


def test_rolls_under_load_lose_no_request(world: World, record_property: Callable[[str, object], None]) -> None:
    world.serve(release("r1", world.a))
    took_s = []
    with under_load(world.load()) as load:
        for number in range(2, 2 + ROLLS):
            began = time.monotonic()
            wanted = release(f"r{number}", world.b if number % 2 == 0 else world.a)
            state = serve(world.target, wanted)
            took_s.append(round(time.monotonic() - began, 1))
            assert state.serves(wanted), state
        time.sleep(2)
    record_property("rolls", f"{load.sent} requests, {len(load.failures)} failed, seconds a roll: {took_s}")
    assert load.failures == []
    assert load.versions == {str(number) for number in range(1, 2 + ROLLS)}
    assert load.sent > RATE_PER_S * sum(took_s) * 0.8


def test_a_killed_replica_loses_no_request_and_is_counted(world: World) -> None:
    wanted = release("r1", world.a)
    world.serve(wanted)
    with under_load(world.load()) as load:
        time.sleep(1)
        service = f"{world.swarm.prefix}-{ENVIRONMENT}-live"
        world.swarm.engine.containers.get(world.swarm.containers(service, running_only=True)[0]).kill()
        lost = eventually(world.live, lambda state: not state.serves(wanted))
        state = eventually(world.live, lambda state: state.serves(wanted))
        time.sleep(2)
    assert load.failures == []
    assert (lost.release, lost.failure) == (wanted, None)
    assert sorted(replica.restarts for replica in state.replicas) == [0, 1]


def test_a_crashing_release_costs_nothing_and_is_undone(world: World) -> None:
    old, bad = release("r1", world.a), release("r2", world.broken)
    world.serve(old)
    with under_load(world.load()) as load:
        state = serve(world.target, bad)
        assert (state.phase, state.release) == (Phase.FAILED, old)
        assert "exited with status 3" in str(state.failure)
        assert "digest mismatch" in state.last_log[-1]
        world.target.restore(ENDPOINT, old, epoch=1)
        assert settle(world.target).serves(old)
    assert load.failures == []
    assert load.versions == {"1"}


def test_a_release_that_never_gets_ready_fails_and_is_undone(world: World, swarm: SwarmEnvironment) -> None:
    old, asleep = release("r1", world.a), release("r2", world.b)
    world.serve(old)
    sleeper = swarm.target(world.bundles, world.home, app=sleeping_app(swarm.registry))
    state = serve(sleeper, asleep)
    assert (state.phase, state.release, state.wanted_id) == (Phase.FAILED, old, "r2")
    assert "unhealthy" in str(state.failure)
    assert all(replica.ready and replica.digest == world.a for replica in state.replicas)
    sleeper.restore(ENDPOINT, old, epoch=1)
    assert settle(sleeper).serves(old)


def test_a_roll_without_room_on_the_node_fails_with_the_schedulers_reason(
    swarm: SwarmEnvironment, tmp_path: Path
) -> None:
    cpus = int(swarm.engine.info()["NCPU"])
    # Two replicas fill the node; a roll needs room for a third.
    with swarm.services(replicas=2, reserved_cpus={Slot.LIVE: 0.45 * cpus}):
        world = World(swarm, tmp_path)
        old = release("r1", world.a)
        began = time.monotonic()
        state = serve(world.target, old)
        assert time.monotonic() - began < 20
        assert (state.phase, state.release) == (Phase.FAILED, None)
        assert "no suitable node (insufficient resources" in str(state.failure)
        world.target.restore(ENDPOINT, None, epoch=1)
        assert settle(world.target).phase is Phase.EMPTY


def test_a_reservation_larger_than_the_node_fails_in_an_empty_slot(swarm: SwarmEnvironment, tmp_path: Path) -> None:
    cpus = int(swarm.engine.info()["NCPU"])
    with swarm.services(replicas=1, reserved_cpus={Slot.TRIAL: cpus + 1}):
        world = World(swarm, tmp_path)
        state = serve(world.target, release("r1", world.a), Slot.TRIAL)
        assert (state.phase, state.release, state.replicas) == (Phase.FAILED, None, ())
        assert "trial-1 finds no node: no suitable node" in str(state.failure)
        world.target.stop(ENDPOINT, Slot.TRIAL, epoch=1)
        assert settle(world.target, Slot.TRIAL).phase is Phase.EMPTY


def test_only_the_release_is_changed_in_a_service(world: World) -> None:
    before = world.spec()
    world.serve(release("r1", world.a))
    after = world.spec()
    variables = after["TaskTemplate"]["ContainerSpec"]["Env"]
    assert {"SLIPWAY_VERSION=1", f"SLIPWAY_BUNDLE_DIGEST={world.a}", "SLIPWAY_STAGE=Staging"} <= set(variables)
    assert (after["Labels"]["slipway.release"], after["Labels"]["slipway.epoch"]) == ("r1", "1")
    assert {name: after["Labels"][name] for name in before["Labels"]} == before["Labels"]
    assert without_release(after) == without_release(before)


def test_a_newer_epoch_on_any_slot_ends_the_older_on_all(world: World) -> None:
    world.target.stop(ENDPOINT, Slot.TRIAL, epoch=7)
    assert [world.spec(slot)["Labels"]["slipway.epoch"] for slot in Slot] == ["7", "7", "7"]
    before = world.spec()
    with pytest.raises(LostLease, match="lost lease, epoch 6 < 7"):
        world.target.start(release("r1", world.a), Slot.LIVE, epoch=6)
    assert world.spec() == before


def test_a_write_that_was_decided_before_a_newer_epoch_is_refused(world: World) -> None:
    services = SwarmServices(world.swarm.api, world.swarm.endpoints)

    def overtaken(roll: Roll, spec: Spec) -> tuple[ServiceOrder, Spec]:
        if roll.record.epoch < 7:
            services.fence(ENDPOINT, 7)
        return ServiceOrder(epoch=6, since=roll.version), spec

    with pytest.raises(LostLease, match="lost lease, epoch 6 < 7"):
        services.change(ENDPOINT, Slot.TRIAL, 6, overtaken)
    assert services.roll(ENDPOINT, Slot.TRIAL).record.epoch == 7


def test_what_was_changed_by_hand_is_put_back(world: World) -> None:
    wanted = release("r1", world.a)
    world.serve(wanted)
    right = world.spec()
    service = world.swarm.engine.services.get(f"{world.swarm.prefix}-{ENVIRONMENT}-live")
    service.update(image=world.swarm.registry.base, fetch_current_spec=True)
    world.target.restore(ENDPOINT, wanted, epoch=1)
    assert settle(world.target).serves(wanted)
    assert image_of(world.spec()) == image_of(right)


def test_a_release_keeps_its_image_when_it_is_restored_on_a_newer_app(world: World, swarm: SwarmEnvironment) -> None:
    old = release("r1", world.a)
    world.serve(old)
    before = image_of(world.spec())
    assert world.target.images(old) == RunsFrom(before, world.swarm.registry.base)
    newer = swarm.target(world.bundles, world.home, app=sleeping_app(swarm.registry))
    newer.start(release("r2", world.b), Slot.LIVE, epoch=1)
    newer.restore(ENDPOINT, old, epoch=1)
    assert image_of(world.spec()) == before
    assert newer.images(old) == RunsFrom(before, None)
    assert settle(newer).serves(old)


def test_the_edge_shares_a_port_by_weights_and_keeps_them_over_a_reload(world: World) -> None:
    world.serve(release("r1", world.a))
    trial = release("r2", world.b)
    assert serve(world.target, trial, Slot.TRIAL).serves(trial)
    edge = EdgeSocket(world.swarm.api, world.swarm.edge_name)
    with under_load(world.load()) as load:
        world.target.set_traffic_weights(ENDPOINT, {Slot.LIVE: 80, Slot.TRIAL: 20}, epoch=1)
        eventually(lambda: load.versions, lambda versions: versions == {"1", "2"})
        edge.reload()
        time.sleep(1)
        load.answers.clear()
        time.sleep(6)
        shared = [version for _, version, _ in load.answers]
        world.target.set_traffic_weights(ENDPOINT, {Slot.LIVE: 1}, epoch=1)
        time.sleep(1)
        load.answers.clear()
        time.sleep(1)
    assert load.failures == []
    assert 0.15 < shared.count("2") / len(shared) < 0.25
    assert load.versions == {"1"}


def test_a_replica_of_a_replaced_release_that_comes_back_is_not_used(world: World) -> None:
    world.serve(release("r1", world.a))
    wanted = release("r2", world.b)
    world.serve(wanted)
    edge = EdgeSocket(world.swarm.api, world.swarm.edge_name)
    with returned_replica(world, world.a) as ready:
        eventually(ready, bool)
        time.sleep(1)
        with under_load(world.load()) as load:
            time.sleep(2)
        assert (load.versions, load.failures) == ({"2"}, [])
        # Without the executor's word it would be: an edge that was just started knows of nothing.
        edge.name_wanted(str(ENVIRONMENT), Slot.LIVE, [world.a, world.b])
        with under_load(world.load()) as load:
            eventually(lambda: load.versions, lambda versions: versions == {"1", "2"})
        edge.name_wanted(str(ENVIRONMENT), Slot.LIVE, [world.b])


@contextmanager
def returned_replica(world: World, digest: str) -> Iterator[Callable[[], bool]]:
    """Run a replica that no order knows, found by the name of the live slot's; yield what says that it is ready."""
    image = world.swarm.registry.images(world.bundles, world.home).image(digest)
    api, name = world.swarm.engine.api, f"{world.swarm.prefix}-returned"
    service = f"{world.swarm.prefix}-{ENVIRONMENT}-live"
    environ = {
        "SLIPWAY_STAGE": ENVIRONMENT.stage,
        "SLIPWAY_BUNDLE_DIR": "/bundle",
        "SLIPWAY_BUNDLE_DIGEST": digest,
        "SLIPWAY_MODEL": ENDPOINT.model,
        "SLIPWAY_VERSION": "1",
    }
    alias = api.create_endpoint_config(aliases=[f"tasks.{service}"])
    made = api.create_container(
        image, name=name, environment=environ, labels=LABELS,
        host_config=api.create_host_config(read_only=True, cap_drop=["ALL"], tmpfs={"/tmp": ""}),
        networking_config=api.create_networking_config({f"{world.swarm.prefix}-staging": alias}),
    )  # fmt: skip
    try:
        api.start(made["Id"])
        yield lambda: api.inspect_container(made["Id"])["State"]["Health"]["Status"] == "healthy"
    finally:
        api.remove_container(made["Id"], force=True)


def test_shares_that_cannot_be_given_are_refused(world: World) -> None:
    for weights in (
        {Slot.LIVE: 60, Slot.TRIAL: 60},
        {Slot.LIVE: 110, Slot.TRIAL: -10},
        {Slot.LIVE: 90, Slot.TRIAL: 10},
    ):
        with pytest.raises(UsageError, match="share"):
            world.target.set_traffic_weights(ENDPOINT, weights, epoch=1)


def test_an_edge_that_refuses_its_configuration_goes_on_with_the_former_one(
    world: World, swarm: SwarmEnvironment
) -> None:
    world.serve(release("r1", world.a))
    good = swarm.edge_config.read_text()
    swarm.edge_config.write_text(good.replace("\nbackend staging", "\nbackend another"))
    try:
        with under_load(world.load()) as load, pytest.raises(TargetUnavailable, match="staging"):
            EdgeSocket(swarm.api, swarm.edge_name).reload()
    finally:
        swarm.edge_config.write_text(good)
    assert load.failures == []


def test_an_engine_that_is_not_there_is_told() -> None:
    nowhere = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(TargetUnavailable, match=f"the container engine {nowhere}"), DockerEngine(nowhere).api() as api:
        api.ping()


def test_a_service_that_is_not_provisioned_is_told(world: World) -> None:
    with pytest.raises(TargetUnavailable, match=r"service \S+-production-live not found"):
        world.target.restore(Endpoint(ENDPOINT.model, Environment.PRODUCTION), None, epoch=1)


def test_a_model_that_the_installation_does_not_have_is_refused_by_its_name(world: World) -> None:
    with pytest.raises(TargetUnavailable, match="other-model in staging is not of this installation") as refused:
        world.target.observe(Endpoint("other-model", Environment.STAGING), Slot.LIVE)
    assert refused.value.exit_code == 2


class Images:
    """The images of one bundle, as an installation with records of its own makes them."""

    def __init__(self, registry: Registry, tmp_path: Path) -> None:
        path, self.digest = make_bundle(tmp_path / "bundles", seed=11)
        self.bundles = {self.digest: path}
        self.registry = registry
        self.tmp_path = tmp_path

    def made(self, home: str, **options: Any) -> str:
        images = self.registry.images(self.bundles, self.tmp_path / home, **options)
        images.prepare(self.digest)
        return images.image(self.digest)


@pytest.fixture
def made(image_registry: Registry, tmp_path: Path) -> Images:
    return Images(image_registry, tmp_path)


def test_the_same_bundle_is_the_same_image_whoever_makes_it(made: Images) -> None:
    first = made.made("one")
    assert made.made("one") == made.made("two") == first
    assert "@sha256:" in first


def test_an_image_holds_the_bundle_and_nothing_else_new(made: Images, engine: Any) -> None:
    output = engine.containers.run(
        made.made("one"), ["sha256sum", "/bundle/bundle.json", "/bundle/model.onnx"], remove=True, network_mode="none"
    )
    found = dict(reversed(line.split()) for line in output.decode().splitlines())
    assert found["/bundle/bundle.json"] == made.digest.removeprefix("sha256:")
    listed = json.loads((made.bundles[made.digest] / "bundle.json").read_bytes())["files"]
    assert f"sha256:{found['/bundle/model.onnx']}" == listed["model.onnx"]


def test_a_bundle_whose_bytes_do_not_hold_becomes_no_image(made: Images) -> None:
    def refuse(digest: str) -> Path:
        raise DeployFailed(f"digest mismatch, expected {digest}")

    images = made.registry.images(made.bundles, made.tmp_path / "none", verified=refuse)
    with pytest.raises(DeployFailed, match="digest mismatch"):
        images.prepare(made.digest)
    assert not (made.tmp_path / "none").exists()


def test_an_image_that_holds_another_bundle_is_made_anew(made: Images) -> None:
    right = made.made("one")
    path, other = make_bundle(made.tmp_path / "others", seed=12)
    wrong = made.registry.images({other: path}, made.tmp_path / "two")
    [record] = (made.tmp_path / "one" / "images").iterdir()
    record.write_text(wrong.image(other).partition("/")[2])
    assert made.made("one") == right


def test_a_recorded_image_on_the_engine_needs_no_registry(made: Images, engine: Any) -> None:
    image = made.made("one")
    nowhere = f"127.0.0.1:{free_port()}"
    with suppress(ImageNotFound):
        engine.images.remove(image)
    with pytest.raises(DeployFailed, match="refused"):
        made.made("one", here=nowhere)
    engine.images.pull(image)
    assert made.made("one", here=nowhere) == image
    with pytest.raises(DeployFailed, match="refused"):
        made.made("two", here=nowhere)


def test_a_discarded_image_is_gone_everywhere_and_can_be_made_again(made: Images, engine: Any) -> None:
    image = made.made("one")
    engine.images.pull(image)
    images = made.registry.images(made.bundles, made.tmp_path / "one")

    for _ in range(2):
        images.discard(made.digest)
        assert subprocess.run([crane(), "manifest", image], capture_output=True, check=False).returncode != 0
        with pytest.raises(ImageNotFound):
            engine.images.get(image)
        assert list((made.tmp_path / "one" / "images").iterdir()) == []
    assert made.made("one") == image


def sleeping_app(registry: Registry) -> str:
    """Make an app that starts and never answers; return its name without an address."""
    made = subprocess.run(
        [crane(), "mutate", registry.base, "--cmd", "sleep,600", "--tag", f"{registry.address}/slipway/app:asleep"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return made.stdout.strip().removeprefix(f"{registry.address}/").replace(":asleep", "")


def image_of(spec: dict[str, Any]) -> str:
    return str(spec["TaskTemplate"]["ContainerSpec"]["Image"])


def without_release(spec: dict[str, Any]) -> dict[str, Any]:
    """Return what of a spec is Terraform's."""
    shape = copy.deepcopy(spec)
    for name in ("Image", "Env"):
        del shape["TaskTemplate"]["ContainerSpec"][name]
    del shape["Labels"]
    return shape
