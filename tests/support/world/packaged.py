"""A registered version made a bundle as an evaluation makes it, with a confined job within this process."""

from pathlib import Path

from pipelines.adapters.storage.bundle_store import BundleStore
from pipelines.domain.version import RegisteredVersion
from pipelines.packaging.package import Packaged, make_bundle
from pipelines.ports import JobBounds, ModelRegistry
from tests.support.world.fakes import FakeJobs


def package(registry: ModelRegistry, root: Path, version: RegisteredVersion, pinned: str | None = None) -> Packaged:
    """Return a version's bundle, kept below `root`."""
    return make_bundle(
        registry,
        BundleStore(root / "bundles"),
        lambda task, files: FakeJobs(root / "jobs").run(task, files, JobBounds(wall_s=60, memory_mb=2048)),
        version,
        pinned=pinned,
        fallback_evaluation=lambda: None,
        workdir=root / "work",
    )
