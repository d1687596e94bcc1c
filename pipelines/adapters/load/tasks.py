"""What the tasks of a load run are: the job, which judges, and the workers that join it from other machines.

Both are confined alike, are on the load network only, and are never started again.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipelines.adapters.load.files import PLAN, USER

PLACE = PurePosixPath("/out")
RESULTS = PLACE / "result"
# Where Locust's workers find its master; on the load network nobody else is.
JOIN_PORT = 5557
_TMP_MB = 64
# The judge with its arrays, each worker with its samples, and those samples once they are in the judge's hands.
_BASE_MB, _WORKER_MB, _SAMPLES_MB = 768, 384, 128
_PIDS = 256
CORE = 1_000_000_000
_MIB = 1024 * 1024


@dataclass(frozen=True)
class Parts:
    """What all tasks of one run share."""

    name: str
    image: str
    labels: dict[str, str]
    network: str


def job_task(parts: Parts, *, node: str, cores: int, workers: int) -> dict[str, Any]:
    """Describe the run's one job: it holds its worker when that is the only one, and else Locust's master."""
    volume = {"Type": "volume", "Source": parts.name, "Target": str(PLACE), "VolumeOptions": {"Labels": parts.labels}}
    command = {"Args": ["--plan", str(PLACE / PLAN), "--out", str(RESULTS)]}
    memory_mb = _BASE_MB + (_WORKER_MB if workers == 1 else _SAMPLES_MB * workers)
    task = _task(parts, command, cores=cores, memory_mb=memory_mb, mounts=[volume])
    return {**task, "Placement": {"Constraints": [f"node.id=={node}"]}}


def worker_task(parts: Parts, *, cores: int) -> dict[str, Any]:
    """Describe one worker: a core for Locust, and one for the empty endpoint that it measures first."""
    command = {"Command": ["python", "-m", "loadtests.runner.join"], "Args": [f"--master-host={parts.name}"]}
    return _task(parts, command, cores=cores, memory_mb=_WORKER_MB, mounts=[])


def _task(
    parts: Parts, command: dict[str, list[str]], *, cores: int, memory_mb: int, mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    """Confine a task. It is not asked for its health: that would take CPU from what it measures."""
    return {
        "ContainerSpec": {
            "Image": parts.image,
            **command,
            "User": f"{USER}:{USER}",
            "Labels": parts.labels,
            "ReadOnly": True,
            "CapabilityDrop": ["ALL"],
            "StopGracePeriod": 5_000_000_000,
            "Healthcheck": {"Test": ["NONE"]},
            "Mounts": [
                *mounts,
                {"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": {"SizeBytes": _TMP_MB * _MIB}},
            ],
        },
        "Resources": {
            "Limits": {"NanoCPUs": cores * CORE, "MemoryBytes": memory_mb * _MIB, "Pids": _PIDS},
            "Reservations": {"MemoryBytes": memory_mb * _MIB},
        },
        "RestartPolicy": {"Condition": "none"},
        "Networks": [{"Target": parts.network}],
        "LogDriver": {"Name": "json-file", "Options": {"max-size": "10m", "max-file": "3"}},
    }
