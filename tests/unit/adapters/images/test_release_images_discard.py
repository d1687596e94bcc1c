"""What is left of an image whose registry lets nothing go; the registry's client is a script."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from pipelines.adapters.images.release_images import ImageRegistry, ReleaseImages
from pipelines.errors import DeployFailed


class Engine:
    """An engine that notes which images it removes."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    @contextmanager
    def api(self) -> Iterator["Engine"]:
        yield self

    def remove_image(self, name: str) -> None:
        self.removed.append(name)


@pytest.mark.parametrize(
    ("said", "refused"), [("UNSUPPORTED: deletion is disabled", True), ("MANIFEST_UNKNOWN", False)]
)
def test_an_image_that_its_registry_keeps_leaves_the_engine_all_the_same(
    tmp_path: Path, said: str, refused: bool
) -> None:
    crane, engine = tmp_path / "crane", Engine()
    crane.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 1\n")
    crane.chmod(0o755)
    record = tmp_path / "images" / "aa-1.image"
    record.parent.mkdir()
    record.write_text("slipway/release@sha256:1\n")
    registry = ImageRegistry("here:1", "engines:1", "slipway/app@sha256:2")
    images = ReleaseImages(crane, registry, lambda digest: tmp_path, records=record.parent, engine=cast(Any, engine))
    if refused:
        with pytest.raises(DeployFailed, match=said):
            images.discard("sha256:aa")
    else:
        images.discard("sha256:aa")
    assert engine.removed == ["engines:1/slipway/release@sha256:1"]
    # What is recorded is tried again.
    assert record.exists() is refused
