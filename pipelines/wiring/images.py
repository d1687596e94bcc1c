"""Wires the building of container images, which needs an engine and no installation."""

from collections.abc import Callable, Mapping, Sequence

from pipelines.adapters.images import build as images
from pipelines.adapters.images.build import DEFAULT, Origin
from pipelines.adapters.images.engine_client import EngineClient
from pipelines.settings.settings import ROOT


def open_engine_client(environ: Mapping[str, str]) -> EngineClient:
    """Find the engine's own command line client; raise EngineUnavailable."""
    return EngineClient.found(environ)


def build_images(
    names: Sequence[str],
    environ: Mapping[str, str],
    report_progress: Callable[[str], None],
    *,
    origin: Origin = DEFAULT,
) -> dict[str, str]:
    """Build the container images that are missing: those of `names`, or all; return name -> image id."""
    return images.build_images(ROOT, names, report_progress=report_progress, environ=environ, origin=origin)
