"""What the stages run on, for a project that holds no code of Slipway's: DVC watches files of a project alone.

Whoever trains with other code or other libraries has another slipway.lock, and so trains anew.
"""

import hashlib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipelines.training.workspace import Workspace

# What the stages import, those of the extra `boosting` included, and scipy, by which scikit-learn fits.
LIBRARIES = (
    "catboost",
    "lightgbm",
    "numpy",
    "onnx",
    "onnxmltools",
    "onnxruntime",
    "pandas",
    "protobuf",
    "pyarrow",
    "pydantic",
    "pydantic-core",
    "pyyaml",
    "scikit-learn",
    "scipy",
    "skl2onnx",
    "skops",
    "xgboost-cpu",
)
_PACKAGE = Path(__file__).parents[1]
_CODE = ("__init__.py", "documents.py", "errors.py", "domain", "packaging", "training")
_HEAD = '# What "slipway stage" ran on. Commit it: where it is another, all stages run anew.\n'


def lock(workspace: Workspace) -> None:
    """Write the digest of the stages' code and the versions of their libraries into a working tree."""
    lines = [f"slipway: sha256:{code_digest(_PACKAGE)}", *(f"{name}: {number}" for name, number in _installed())]
    workspace.stage_lock.write_text(_HEAD + "\n".join(lines) + "\n", encoding="utf-8")


def code_files(package: Path) -> list[Path]:
    """Return the files that the stages may import of the package `pipelines`, relative to it."""
    found = (file for name in _CODE for file in (package / name, *(package / name).rglob("*.py")))
    return sorted(file.relative_to(package) for file in found if file.suffix == ".py")


def code_digest(package: Path) -> str:
    """Return the SHA-256 of the names and contents of these files."""
    digest = hashlib.sha256()
    for file in code_files(package):
        content = (package / file).read_bytes()
        digest.update(f"{file.as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _installed() -> list[tuple[str, str]]:
    """Return those of the libraries that are installed, with their versions."""
    found = []
    for name in LIBRARIES:
        # Those of the extra may not be.
        with suppress(PackageNotFoundError):
            found.append((name, version(name)))
    return found
