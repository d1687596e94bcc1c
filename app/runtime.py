"""What a replica runs with: the code, the packages, the names of its settings, its limits, its network and its secrets.

Staging measures a version for production, which means something only as far as both are alike.
"""

import hashlib
import os
import platform
import resource
import socket
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from app.settings import PREFIX

PATH = "/runtime"
# What the service is made of: a change of one may change what it answers, or how fast.
PACKAGES = (
    "fastapi",
    "gunicorn",
    "httptools",
    "msgspec",
    "numpy",
    "onnxruntime",
    "prometheus-client",
    "pydantic",
    "starlette",
    "uvicorn",
    "uvicorn-worker",
    "uvloop",
)
_APP = Path(__file__).parent
_SECRETS = Path("/run/secrets")
_CGROUP = Path("/sys/fs/cgroup")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/net")
_NO_LIMIT = "max"


class Runtime(msgspec.Struct):
    """What a replica runs with. Limits are bytes, processors and numbers of files; null where there is none.

    Replicas of the same `network_namespace` share one network, whatever interfaces it has at the moment; it is empty
    where the system does not tell.
    """

    code: str
    python: str
    packages: dict[str, str | None]
    settings: list[str]
    limits: dict[str, float | None]
    network: list[str]
    network_namespace: str
    secrets: list[str]
    user: int
    peak_memory_bytes: int


def describe() -> Runtime:
    """Return what this process runs with; the most memory that it ever used is that of now."""
    return Runtime(
        code=_code(),
        python=platform.python_version(),
        packages={name: _version(name) for name in PACKAGES},
        settings=sorted(name for name in os.environ if name.startswith(PREFIX)),
        limits=_limits(),
        network=sorted(name for _, name in socket.if_nameindex()),
        network_namespace=_network_namespace(),
        secrets=sorted(each.name for each in _SECRETS.iterdir()) if _SECRETS.is_dir() else [],
        user=os.getuid(),
        peak_memory_bytes=_peak_memory_bytes(),
    )


@cache
def _code() -> str:
    """Return `sha256:<hex>` of the service's own modules, by their names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(_APP.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_APP).as_posix()} {len(content)}\n".encode() + content)
    return f"sha256:{digest.hexdigest()}"


@cache
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _limits() -> dict[str, float | None]:
    cpu = _written(_CGROUP / "cpu.max").split()
    memory = _written(_CGROUP / "memory.max")
    return {
        "memory_bytes": _lowest(_ulimit(resource.RLIMIT_AS), _number(memory)),
        "processors": float(cpu[0]) / float(cpu[1]) if len(cpu) == 2 and cpu[0] != _NO_LIMIT else None,
        "files": _ulimit(resource.RLIMIT_NOFILE),
    }


@cache
def _network_namespace() -> str:
    """Return `sha256:<hex>` of the running kernel and the number of this process's network namespace in it."""
    try:
        number = os.readlink(_NAMESPACE)
    except OSError:
        return ""
    return f"sha256:{hashlib.sha256(f'{_written(_BOOT)} {number}'.encode()).hexdigest()}"


def _written(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(text: str) -> float | None:
    return float(text) if text and text != _NO_LIMIT else None


def _ulimit(which: int) -> float | None:
    soft, _ = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else float(soft)


def _lowest(*limits: float | None) -> float | None:
    return min((each for each in limits if each is not None), default=None)


def _peak_memory_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # KiB on Linux, bytes on macOS.
    return peak if sys.platform == "darwin" else peak * 1024
