"""What becomes of requests when a node is cut off, comes back, is lost, or can't get an image."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

import httpx
from docker.models.containers import Container

from bench.load.load_client import LoadClient, LoadResult, under_load
from bench.nodes.engines import Swarm, await_that, two_engines
from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.adapters.swarm.target import SwarmTarget
from pipelines.adapters.swarm.tasks import Patience
from pipelines.domain.release import Phase, Release, Slot, SlotState
from pipelines.errors import SlipwayError
from pipelines.wiring.images import build_images
from tests.support.containers.swarm import (
    EDGE_CONFIG,
    EDGE_PORT,
    ENDPOINT,
    Registry,
    SwarmEnvironment,
    release,
    serve,
    settle,
)
from tests.support.world.bundles import make_bundle, valid_row

KEPT_PER_S, NEW_PER_S = 60, 10
REGISTRY_PORT = 5000
# A manager gives a silent node up after three heartbeats of 5 s, and the tasks move then.
LOST_S = 120.0
SETTLE_S = 180.0
TRIES = 6
PATIENCE = Patience(place_s=60, start_s=150)
# So long answers are watched after a node has come back.
AFTER_S = 20.0
START_S = 60.0


def measure(place: Place) -> Measured:
    """Serve on two nodes under load; cut one off, release meanwhile, mend it; kill it; have an image it can't get."""
    built = build_images(("app", "edge", "image_registry"), place.environ, place.report_progress)
    with (
        # A socket's path has to be short.
        tempfile.TemporaryDirectory(prefix="sw", dir="/var/tmp") as directory,
        two_engines(Path(directory), list(built.values()), place.report_progress) as swarm,
        _serving(place, swarm, built) as world,
    ):
        figures = {**world.cut_and_mended(), **world.image_not_there(), **world.lost()}
    return Measured(
        about="two replicas on two engines in network namespaces, behind an edge as an installation has it, under"
        f" {KEPT_PER_S} req/s over kept connections and {NEW_PER_S} new connections a second, without retries: the"
        " worker is cut off, a release is made meanwhile, and it comes back; an image that it can't get is released;"
        " it is killed. Requests that a node takes along when it goes fail; they are counted",
        figures=figures,
        limits=(
            Limit("replaced_answers_after_return", Bound.AT_MOST, 0),
            Limit("failed_after_return", Bound.AT_MOST, 0),
            Limit("failed_image_not_there", Bound.AT_MOST, 0),
            Limit("cut_replicas_back_s", Bound.AT_MOST, 90),
            Limit("lost_replicas_back_s", Bound.AT_MOST, 90),
        ),
    )


class _World:
    """Staging's live slot with two replicas, one on each node."""

    def __init__(self, place: Place, swarm: Swarm, environment: SwarmEnvironment, registry: Container) -> None:
        self._report = place.report_progress
        self._swarm = swarm
        self._environment = environment
        self._registry = registry
        made = [make_bundle(place.workdir / "bundles", seed=seed) for seed in (1, 2, 3)]
        self._target: SwarmTarget = environment.target(
            {digest: path for path, digest in made}, place.workdir, patience=PATIENCE
        )
        self._number = 0
        self._old, self._new, self._third = (digest for _, digest in made)
        self._live = environment.endpoints[ENDPOINT].slots[Slot.LIVE]

    def cut_and_mended(self) -> dict[str, float]:
        """Cut the worker off, release another version, give the network back."""
        old, new = self._spread(self._old), release("r-new", self._new)
        with under_load(self._load()) as load:
            time.sleep(2)
            self._swarm.worker.cut()
            back_s = self._await_replicas(old)
            failed_cut = len(load.failures)
            self._report(f"cut: {failed_cut} of {load.sent} failed, two replicas again after {back_s:.1f} s")
            self._serve(new)
            time.sleep(2)
            since, before = time.monotonic(), len(load.failures)
            self._swarm.worker.mend()
            time.sleep(AFTER_S)
        replaced = [at - since for at, version, _ in load.answers if at > since and version != new.version]
        failed, last_s = len(load.failures) - before, max(replaced, default=0.0)
        self._report(f"back: {len(replaced)} answers of the replaced release, until {last_s:.1f} s; {failed} failed")
        self._tell(load)
        return {
            "failed_cut": failed_cut,
            "cut_replicas_back_s": back_s,
            "replaced_answers_after_return": len(replaced),
            "replaced_answers_until_s": last_s,
            "failed_after_return": failed,
        }

    def image_not_there(self) -> dict[str, float]:
        """Release what only the manager has the image of."""
        old, wanted = release("r-new", self._new), release("r-third", self._third)
        self._target.prepare(wanted.endpoint, wanted.bundle_digest)
        self._await_nodes()
        with under_load(self._load()) as load:
            self._registry.stop()
            state = serve(self._target, wanted)
            self._report(f"image not there: {state.phase}, {state.failure}")
            if state.phase is not Phase.FAILED:
                load.failures.append(f"a release without its image is {state.phase}")
            self._target.restore(old.endpoint, old, epoch=1)
            settled = settle(self._target, within_s=SETTLE_S)
            if not settled.serves(old):
                load.failures.append(f"the release before does not serve: {settled}")
            self._registry.start()
        self._tell(load)
        return {"failed_image_not_there": len(load.failures)}

    def lost(self) -> dict[str, float]:
        """Kill the worker with all that runs there."""
        wanted = self._spread(self._old)
        with under_load(self._load()) as load:
            time.sleep(2)
            self._swarm.worker.kill()
            back_s = self._await_replicas(wanted)
            time.sleep(2)
        self._report(f"lost: {len(load.failures)} of {load.sent} failed, two replicas again after {back_s:.1f} s")
        self._tell(load)
        return {"failed_lost": len(load.failures), "lost_replicas_back_s": back_s}

    def _load(self) -> LoadClient:
        return LoadClient(self._environment.edge_url, valid_row(), kept_per_s=KEPT_PER_S, new_per_s=NEW_PER_S)

    def _serve(self, wanted: Release) -> SlotState:
        self._target.start(wanted, Slot.LIVE, epoch=1)
        state = settle(self._target, within_s=SETTLE_S)
        if not state.serves(wanted):
            raise SlipwayError(f"{wanted.id} does not serve: {state}")
        return state

    def _await_replicas(self, wanted: Release) -> float:
        """Wait until the loss was noticed and both replicas serve again."""

        def serves() -> bool:
            return self._target.observe(wanted.endpoint, Slot.LIVE).serves(wanted)

        begun = time.monotonic()
        await_that(lambda: not serves(), "noticing that a replica is gone", LOST_S)
        await_that(serves, "two replicas again", LOST_S)
        return time.monotonic() - begun

    def _await_nodes(self) -> None:
        api = self._swarm.manager.client.api
        await_that(lambda: all(node["Status"]["State"] == "ready" for node in api.nodes()), "two nodes", LOST_S)

    def _spread(self, digest: str) -> Release:
        """Serve a bundle with a replica on each node: Swarm does not see to that, so roll until it is so."""
        self._await_nodes()
        for _ in range(TRIES):
            self._number += 1
            wanted = release(f"r{self._number}", digest)
            self._serve(wanted)
            tasks = self._swarm.manager.client.api.tasks(filters={"service": self._live, "desired-state": "running"})
            if len({task["NodeID"] for task in tasks}) == len(tasks):
                return wanted
        raise SlipwayError(f"the replicas are not on two nodes after {TRIES} rolls")

    def _tell(self, load: LoadResult) -> None:
        for failure in load.failures[:5]:
            self._report(failure)


@contextmanager
def _serving(place: Place, swarm: Swarm, images: Mapping[str, str]) -> Iterator[_World]:
    """Run an image registry and an edge on the manager's node, and the slots' services on both."""
    client = swarm.manager.client
    inner = {"read_only": True, "cap_drop": ["ALL"], "mem_limit": "1g", "detach": True}
    address = f"{swarm.manager.address}:{REGISTRY_PORT}"
    registry = client.containers.run(
        images["image_registry"], ports={"5000/tcp": (swarm.manager.address, REGISTRY_PORT)}, tmpfs={"/tmp": ""},
        volumes={"images": {"bind": "/data"}}, **inner,
    )  # fmt: skip
    await_that(lambda: _answers(f"http://{address}/v2/"), "the image registry", START_S)
    network = client.networks.create("two-staging", driver="overlay", attachable=True)
    engine = DockerEngine(swarm.manager.url)
    environment = SwarmEnvironment(client, Registry(client, engine, address, images["app"]), "two", network.id)
    config = place.workdir / "edge"
    config.mkdir(mode=0o755)
    (config / "haproxy.cfg").write_text(EDGE_CONFIG.replace("PREFIX", environment.prefix))
    client.containers.run(
        images["edge"], name=environment.edge_name, network=network.name,
        ports={f"{EDGE_PORT}/tcp": (swarm.manager.address, EDGE_PORT)},
        volumes={str(config): {"bind": "/etc/haproxy", "mode": "ro"}},
        tmpfs={"/run/haproxy": "size=16m,mode=0700,uid=10001,gid=10001", "/tmp": ""}, **inner,
    )  # fmt: skip
    environment.edge_url = f"http://{swarm.manager.address}:{EDGE_PORT}"
    with environment.services(replicas=2):
        yield _World(place, swarm, environment, registry)
    engine.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=2).status_code == HTTPStatus.OK
    except httpx.HTTPError:
        return False
