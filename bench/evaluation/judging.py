"""Has a version judged by the offline gates once, in a confined job: `python -m bench.evaluation.judging`."""

import json
import os
import resource
import sys
import time
from pathlib import Path

from bench.evaluation.gates import MEMORY_MB
from pipelines.domain.policy import VERSION
from pipelines.errors import UsageError
from pipelines.evaluation.gates.registry import GATES
from pipelines.evaluation.offline import Material, ask_offline
from pipelines.ports import JobBounds
from pipelines.settings.settings import Settings
from pipelines.wiring.local import open_jobs

_WALL_S = 1200.0


def main(candidate: str, champion: str, digest: str, folder: str) -> int:
    """Print the seconds and the MiB that the job took; return 0."""
    jobs = open_jobs(Settings.from_environ(os.environ))
    material = Material(
        digest=digest,
        candidate=Path(candidate),
        champion=Path(champion),
        evaluation=Path(folder) / "evaluation.parquet",
        predictions=Path(folder) / "predictions.parquet",
    )
    policy = GATES.read_policy({"schema_version": VERSION, "profile": "full"})
    began = time.monotonic()
    bounds = JobBounds(_WALL_S, MEMORY_MB)
    found = ask_offline(lambda task, files: jobs.run(task, files, bounds), GATES, policy, material).results
    seconds = time.monotonic() - began
    if missing := {gate.name for gate in GATES.of_the_model} - {result.gate for result in found}:
        told = "; ".join(result.message for result in found)
        raise UsageError(f"{', '.join(sorted(missing))} were not measured: {told}")
    memory_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    sys.stdout.write(json.dumps({"seconds": seconds, "memory_mb": memory_mb}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
