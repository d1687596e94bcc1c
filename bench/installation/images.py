"""How long the first build of the container images takes, and how large each is over the base."""

import time
import uuid

from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place
from pipelines.adapters.images.build import BASE, Origin
from pipelines.adapters.images.engine_client import EngineClient
from pipelines.errors import ImageUnavailable
from pipelines.wiring.images import build_images, open_engine_client

LIMIT_S = 720
APP_LIMIT_MB = 220
CONTROL_LIMIT_MB = 850
REPOSITORY = "slipway-bench"
MB = 1e6


def measure(place: Place) -> Measured:
    """Build all images from a base of its own, so that no earlier build helps, and remove them again."""
    client = open_engine_client(place.environ)
    origin = Origin(_base_of_its_own(client, place), REPOSITORY)
    try:
        begun = time.perf_counter()
        built = build_images((), place.environ, place.report_progress, origin=origin)
        taken_s = time.perf_counter() - begun
        base_mb = _size_mb(client, origin.base)
        sizes = {f"{name}_over_base_mb": _size_mb(client, image) - base_mb for name, image in built.items()}
    finally:
        _remove_all(client)
    return Measured(
        about=f"all images are built, two at a time, from a new base, and weighed against its {base_mb:.0f} MB;"
        " the packages come from their registries",
        figures={"first_build_s": taken_s, **sizes},
        limits=(
            Limit("first_build_s", Bound.AT_MOST, LIMIT_S),
            Limit("app_over_base_mb", Bound.AT_MOST, APP_LIMIT_MB),
            Limit("control_over_base_mb", Bound.AT_MOST, CONTROL_LIMIT_MB),
        ),
    )


def _base_of_its_own(client: EngineClient, place: Place) -> str:
    base = f"{REPOSITORY}/base:{uuid.uuid4().hex[:12]}"
    place.report_progress(f"making {base}")
    recipe = f"FROM {BASE}\nRUN echo {base} > /etc/slipway-bench\n"
    done = client.run("build", "--tag", base, "-", content=recipe.encode(), limit_s=300)
    if done.returncode != 0:
        raise ImageUnavailable(done.stderr.decode(errors="replace").strip(), next='"make images" first')
    return base


def _size_mb(client: EngineClient, image: str) -> float:
    return float(client.asked("image", "inspect", "--format", "{{.Size}}", image) or "nan") / MB


def _remove_all(client: EngineClient) -> None:
    for line in (client.asked("images", "--format", "{{.Repository}}:{{.Tag}}") or "").splitlines():
        if line.startswith(f"{REPOSITORY}/"):
            client.asked("image", "rm", line, limit_s=120)
