"""One environment on a real Swarm for tests, in the shape that Terraform gives it.

`swarm` is a fixture: a network, an edge and an image registry, all of this session alone. Its services are made
anew for each test by `SwarmEnvironment.services`.
"""

import json
import os
import secrets
import shutil
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import docker
import pytest
from docker.errors import ImageNotFound
from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID

from pipelines.adapters.images.release_images import ImageRegistry, ReleaseImages
from pipelines.adapters.swarm.edge_socket import EdgeSocket
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.adapters.swarm.services import EndpointServices, SwarmServices
from pipelines.adapters.swarm.target import SwarmTarget
from pipelines.adapters.swarm.tasks import Patience
from pipelines.domain.release import Endpoint, Environment, Release, Slot, SlotState
from pipelines.ports import HttpReply
from tests.support.containers.engine import ENGINE_URL, ROOT, hardened, make_volume, remove_network, url_of
from tests.support.containers.needs import skip_without_containers
from tests.support.world.supervisors import eventually, settled

ENVIRONMENT = Environment.STAGING
ENDPOINT = Endpoint("toy-model", ENVIRONMENT)
LABELS = {LABEL_SESSION_ID: SESSION_ID}
SECOND = 1_000_000_000
EDGE_PORT = 8000
# The drain of a replica, and what a busy machine adds to it.
GONE_S = 60.0
SETTLE_S = 60.0
PATIENCE = Patience(place_s=4, start_s=40)
EDGE_CONFIG = (Path(__file__).parent / "edge.cfg").read_text()

_ASK_LIMIT_S = 2.0
_GET = 'exec 3<>"/dev/tcp/$1/$2" && printf "GET /ready HTTP/1.0\\r\\nHost: $1\\r\\n\\r\\n" >&3 && cat <&3'


class AskFromInside:
    """Asks replicas, which a test can't reach, from within the running container `name`, which needs bash and no more.

    Raises TargetUnavailable when the container itself is not there.
    """

    def __init__(self, engine: DockerEngine, name: str) -> None:
        self._engine = engine
        self._name = name

    def __call__(self, address: str) -> HttpReply | None:
        """Ask as `ask_directly` does."""
        host, _, port = address.rpartition(":")
        command = ["timeout", f"{_ASK_LIMIT_S:g}", "bash", "-c", _GET, "bash", host, port]
        status, reply = self._engine.run_inside(self._name, command)
        head, _, body = reply.partition("\r\n\r\n")
        try:
            return HttpReply(int(head.split(" ", 2)[1]), dict(json.loads(body)), {}) if status == 0 else None
        except (ValueError, IndexError, TypeError):
            return None


class SwarmEnvironment:
    """Staging of an installation with the prefix `prefix`."""

    def __init__(self, engine: docker.DockerClient, registry: "Registry", prefix: str, network: str) -> None:
        self.engine = engine
        self.api = registry.api
        self.registry = registry
        self.prefix = prefix
        self.edge_url = ""
        self.edge_config = Path()
        self.edge_name = f"{prefix}-edge"
        self._network = network

    @property
    def endpoints(self) -> dict[Endpoint, EndpointServices]:
        """The services as Terraform would name them."""
        return {
            Endpoint(ENDPOINT.model, each): EndpointServices({s: f"{self.prefix}-{each}-{s}" for s in Slot}, each)
            for each in Environment
        }

    def target(
        self, bundles: dict[str, Path], home: Path, *, app: str | None = None, patience: Patience = PATIENCE
    ) -> SwarmTarget:
        """Return a target that keeps its records of images in `home`."""
        return SwarmTarget(
            SwarmServices(self.api, self.endpoints),
            self.registry.images(bundles, home, app=app),
            EdgeSocket(self.api, self.edge_name),
            patience=patience,
            ask=AskFromInside(self.api, self.edge_name),
        )

    def connect(self, url: str) -> None:
        """Connect to a URL's address from the environment's network, where the edge stands; raise URLError."""
        parts = urlsplit(url)
        connect = ["timeout", "5", "bash", "-c", ': <>"/dev/tcp/$1/$2"', "bash", str(parts.hostname), str(parts.port)]
        status, told = self.api.run_inside(self.edge_name, connect)
        if status:
            raise urllib.error.URLError(told)

    @contextmanager
    def services(self, *, replicas: int = 2, reserved_cpus: Mapping[Slot, float] | None = None) -> Iterator[None]:
        """Make the services of the three slots, wait for `live` to be alive without a release, and remove them."""
        names = self.endpoints[ENDPOINT].slots
        made: list[str] = []
        try:
            for slot, name in names.items():
                self._make(name, slot, replicas if slot is Slot.LIVE else 0, (reserved_cpus or {}).get(slot, 0.0))
                made.append(name)
            eventually(lambda: self._running(names[Slot.LIVE]), lambda count: count == replicas, SETTLE_S)
            yield
        finally:
            for name in made:
                self.engine.api.remove_service(name)
            eventually(lambda: [id for name in made for id in self.containers(name)], lambda left: not left, GONE_S)

    def containers(self, service: str, *, running_only: bool = False) -> list[str]:
        """Return the ids of a service's containers."""
        filters = {"label": f"com.docker.swarm.service.name={service}"}
        return [str(each["Id"]) for each in self.engine.api.containers(all=not running_only, filters=filters)]

    def _running(self, service: str) -> int:
        return sum(task["Status"]["State"] == "running" for task in self.engine.api.tasks({"service": service}))

    def _make(self, name: str, slot: Slot, replicas: int, reserved_cpus: float) -> None:
        limits = {"NanoCPUs": SECOND, "MemoryBytes": 512 << 20}
        self.engine.api.create_service(
            {
                "ContainerSpec": {
                    "Image": self.registry.base,
                    "User": "10001:10001",
                    "ReadOnly": True,
                    "CapabilityDrop": ["ALL"],
                    "StopGracePeriod": 20 * SECOND,
                    "Env": [f"SLIPWAY_STAGE={ENVIRONMENT.stage}"],
                    "Healthcheck": {
                        "Test": ["CMD", "probe", "8000", "/health"],
                        "Interval": SECOND,
                        "Timeout": 3 * SECOND,
                        "StartPeriod": 5 * SECOND,
                        "Retries": 3,
                    },
                    "Mounts": [{"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": {"SizeBytes": 64 << 20}}],
                },
                "Resources": {"Limits": limits, "Reservations": {"NanoCPUs": int(reserved_cpus * SECOND)}},
                "RestartPolicy": {"Condition": "any", "Delay": SECOND, "MaxAttempts": 0, "Window": 0},
                "LogDriver": {"Name": "json-file", "Options": {"max-size": "10m", "max-file": "3"}},
                "Networks": [{"Target": self._network}],
            },
            name=name,
            labels={**LABELS, "slipway.role": "environment", "slipway.slot": slot},
            mode={"Replicated": {"Replicas": replicas}},
            update_config={
                "Order": "start-first",
                "Parallelism": 1,
                "Delay": 0,
                "FailureAction": "pause",
                "Monitor": 3 * SECOND,
                "MaxFailureRatio": 0.0,
            },
            endpoint_spec={"Mode": "dnsrr"},
        )


class Registry:
    """An image registry that holds the app's image; `address` is its place for everyone on this machine."""

    def __init__(self, engine: docker.DockerClient, api: DockerEngine, address: str, app_image: str) -> None:
        self.api = api
        self.address = address
        self._app = f"slipway/app@{_push(engine, app_image, f'{address}/slipway/app')}"

    @property
    def base(self) -> str:
        """The app's image, as engines pull it."""
        return f"{self.address}/{self._app}"

    def images(
        self,
        bundles: dict[str, Path],
        home: Path,
        *,
        app: str | None = None,
        here: str | None = None,
        verified: Callable[[str], Path] | None = None,
    ) -> ReleaseImages:
        """Return the images of releases; on another app, or with another way to the registry or to bundles."""
        registry = ImageRegistry(here=here or self.address, engines=self.address, app=app or self._app)
        records = home / "images"
        return ReleaseImages(crane(), registry, verified or bundles.__getitem__, records=records, engine=self.api)


@pytest.fixture(scope="session")
def image_registry(engine: docker.DockerClient, images: dict[str, str]) -> Iterator[Registry]:
    """An image registry with the app in it."""
    crane()
    api = DockerEngine(ENGINE_URL)
    with hardened(images["image_registry"], port=5000, data=make_volume(engine)) as container:
        address = url_of(container, 5000).removeprefix("http://")
        try:
            yield Registry(engine, api, address, images["app"])
        finally:
            _forget_images(engine, address)
            api.close()


@pytest.fixture(scope="session")
def swarm(
    engine: docker.DockerClient,
    images: dict[str, str],
    image_registry: Registry,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SwarmEnvironment]:
    """An environment without services."""
    if engine.info()["Swarm"]["LocalNodeState"] != "active":
        skip_without_containers("the engine is in no swarm; next: docker swarm init")
    prefix = f"t{secrets.token_hex(4)}"
    network = engine.networks.create(f"{prefix}-staging", driver="overlay", attachable=True, labels=LABELS)
    config = tmp_path_factory.mktemp("edge")
    config.chmod(0o755)
    place = SwarmEnvironment(engine, image_registry, prefix, network.id)
    place.edge_config = config / "haproxy.cfg"
    place.edge_config.write_text(EDGE_CONFIG.replace("PREFIX", prefix))
    edge = hardened(images["edge"], port=EDGE_PORT, volumes={config: "/etc/haproxy"}, network=network.name)
    with edge.with_name(place.edge_name).with_tmpfs_mount("/run/haproxy", "size=16m,mode=0700,uid=10001,gid=10001"):
        place.edge_url = url_of(edge, EDGE_PORT)
        yield place
    remove_network(engine, network)


def crane() -> Path:
    """Return where crane is, which releases are made with."""
    tools = Path(os.environ.get("SLIPWAY_TOOLS") or ROOT / ".tools")
    found = shutil.which("crane", path=f"{tools / 'bin'}:{os.environ['PATH']}")
    if found is None:
        skip_without_containers("crane is not on this machine; next: make offline")
    return Path(found)


def release(id: str, digest: str) -> Release:
    """Return a release of the version in its id."""
    return Release(id, ENDPOINT.model, ENVIRONMENT, id.removeprefix("r"), digest)


def settle(target: SwarmTarget, slot: Slot = Slot.LIVE, within_s: float = SETTLE_S) -> SlotState:
    """Observe a slot until its roll has ended one way or the other."""
    return eventually(lambda: target.observe(ENDPOINT, slot), settled, within_s)


def serve(target: SwarmTarget, wanted: Release, slot: Slot = Slot.LIVE) -> SlotState:
    """Start a release and wait for the end of its roll."""
    target.start(wanted, slot, epoch=1)
    return settle(target, slot)


def _push(engine: docker.DockerClient, image: str, repository: str) -> str:
    """Push an image of the engine and return its digest."""
    engine.images.get(image).tag(repository, "test")
    for line in engine.api.push(repository, "test", stream=True, decode=True):
        assert "error" not in line, line
        if "Digest" in line.get("aux", {}):
            return str(line["aux"]["Digest"])
    raise AssertionError(f"the engine told no digest of {repository}")


def _forget_images(engine: docker.DockerClient, address: str) -> None:
    """Remove what was pulled from a registry that ends, once no container is left that uses it."""
    for image in engine.images.list():
        names = [name for name in [*image.attrs["RepoTags"], *image.attrs["RepoDigests"]] if name.startswith(address)]
        for name in names:
            # The last tag that goes takes the digest along.
            with suppress(ImageNotFound):
                engine.images.remove(name, force=True)
