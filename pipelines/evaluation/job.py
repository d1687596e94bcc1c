"""The program of every confined job: packaging reads the files of a version, the offline gates measure bundles.

What a version has logged of its data, and what an evaluation set holds, are read for the operator alone; what
production was asked is compared with what its version was trained on.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from pipelines.evaluation.gates.registry import GATES, Gates
from pipelines.evaluation.live_drift import LiveDriftTask, measure_live_drift
from pipelines.evaluation.offline import OfflineTask, measure_offline
from pipelines.packaging.added_set import AddedSetTask, read_added_set
from pipelines.packaging.confined import PackagingTask, answered
from pipelines.packaging.logged_data import LoggedDataTask, read_logged_data
from pipelines.packaging.read_set import EvaluationSetTask, read_evaluation_set
from pipelines.packaging.reading import read_version

_Task = PackagingTask | OfflineTask | LoggedDataTask | EvaluationSetTask | AddedSetTask | LiveDriftTask
_TASK: TypeAdapter[_Task] = TypeAdapter(Annotated[_Task, Field(discriminator="kind")])


def carry_out(task: bytes, place: Path, gates: Gates = GATES) -> bytes:
    """Do a task with the files in `place`, and return the answer as JSON."""
    asked = _TASK.validate_json(task)
    if isinstance(asked, PackagingTask):
        return answered(lambda: read_version(asked, place))
    if isinstance(asked, LoggedDataTask):
        return answered(lambda: read_logged_data(asked, place))
    if isinstance(asked, EvaluationSetTask):
        return answered(lambda: read_evaluation_set(asked, place))
    if isinstance(asked, AddedSetTask):
        return answered(lambda: read_added_set(asked, place))
    if isinstance(asked, LiveDriftTask):
        return answered(lambda: measure_live_drift(asked, place))
    return answered(lambda: measure_offline(asked, place, gates))
