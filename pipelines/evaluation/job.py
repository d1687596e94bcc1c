"""The program of every confined job: packaging reads the files of a version, the offline gates measure bundles."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from pipelines.evaluation.gates.registry import GATES, Gates
from pipelines.evaluation.offline import OfflineTask, measure_offline
from pipelines.packaging.confined import PackagingTask, answered
from pipelines.packaging.reading import read_version

_TASK: TypeAdapter[PackagingTask | OfflineTask] = TypeAdapter(
    Annotated[PackagingTask | OfflineTask, Field(discriminator="kind")]
)


def carry_out(task: bytes, place: Path, gates: Gates = GATES) -> bytes:
    """Do a task with the files in `place`, and return the answer as JSON."""
    asked = _TASK.validate_json(task)
    if isinstance(asked, PackagingTask):
        return answered(lambda: read_version(asked, place))
    return answered(lambda: measure_offline(asked, place, gates))
