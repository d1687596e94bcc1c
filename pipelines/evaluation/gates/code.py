"""The digest of the code that measures and judges: a report names it, so that a pass of other code is known as such.

It is made of the sources as they are installed, so that it is the same on every target and in every image.
"""

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

# The gates, and what else decides what they find. Who reads a policy is not among it: a report names the policy's own
# digest. Nor is the generator of load, which is in another image: its plans and results have versions.
MEASURED_BY = (
    "domain/bundle.py",
    "domain/description.py",
    "domain/verdict.py",
    "evaluation/drift.py",
    "evaluation/gates",
    "evaluation/offline.py",
    "evaluation/trial.py",
    "live/recorded.py",
    "live/told.py",
    "packaging/golden.py",
    "packaging/onnx_bounds.py",
    "packaging/onnx_model.py",
    "packaging/reading.py",
    "packaging/served.py",
    "packaging/snapshot.py",
    "packaging/training_rows.py",
)


@cache
def gates_digest() -> str:
    """Return `sha256:<hex>` of the installed sources that MEASURED_BY names."""
    return digest_of_sources(files("pipelines"), MEASURED_BY)


def digest_of_sources(root: Traversable, names: tuple[str, ...]) -> str:
    """Return `sha256:<hex>` of the Python sources of files and folders below `root`, by their names in order.

    How lines end does not count, nor what Python has compiled. Raises FileNotFoundError for a name that is not there.
    """
    digest = hashlib.sha256()
    found = sorted({path: content for name in names for path, content in _sources(root.joinpath(name), name)}.items())
    for path, content in found:
        plain = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        digest.update(f"{path}\0{len(plain)}\0".encode() + plain)
    return f"sha256:{digest.hexdigest()}"


def _sources(place: Traversable, name: str) -> Iterator[tuple[str, bytes]]:
    if not place.is_dir():
        yield name, place.read_bytes()
        return
    for each in place.iterdir():
        if each.is_dir() or each.name.endswith(".py"):
            yield from _sources(each, f"{name}/{each.name}")
