"""Whether a file that a person adds is an evaluation set of a model: read in a confined job, as strangers' are."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pipelines.domain.bundle import Feature
from pipelines.domain.description import Description, Task, label_text
from pipelines.domain.texts import one_line
from pipelines.errors import NotServable
from pipelines.packaging.confined import EVALUATION, Form, Run, ask

if TYPE_CHECKING:
    from pipelines.packaging.snapshot import Snapshot

_ADVICE = "give the rows that this model's project describes: slipway evalset add FILE --name NAME"


class AddedSetTask(Form):
    """Asks whether a file is a set that versions of a model can be judged by."""

    kind: Literal["added set"] = "added set"
    model: str
    bundle: dict[str, Any] | None = Field(description="The description of the bundle that serves; None before any.")


class _Counted(Form):
    rows: int = Field(ge=1)


def ask_added_set(run: Run, file: Path, *, model: str, bundle: dict[str, Any] | None) -> int:
    """Have a confined job look at a file; return how many rows it has, or raise NotServable for what is no such set."""
    return ask(run, AddedSetTask(model=model, bundle=bundle), {EVALUATION: file}, _Counted).rows


def read_added_set(task: AddedSetTask, place: Path) -> Form:
    """Look at the file in `place`, inside of such a job."""
    # Only inside of the job: who asks reads no file.
    from pipelines.packaging.reading import refuse_missing_truth, refuse_unasked
    from pipelines.packaging.snapshot import read_snapshot

    found = read_snapshot(place / EVALUATION)
    if found.description.model != task.model:
        raise NotServable(
            f"the file is an evaluation set of {found.description.model!r}, and not of {task.model}", next=_ADVICE
        )
    if found.frame.empty:
        raise NotServable("the evaluation set has no rows", next=_ADVICE)
    refuse_unasked(found.frame, found.description.features)
    refuse_missing_truth(found)
    _refuse_undecided(found)
    if task.bundle is not None:
        served = Description.read(task.bundle)
        _refuse_other(found, served)
        # One that may be missing, and has no column, is missing in every row.
        features = [Feature.read(each) for each in served.features]
        asked = tuple(each for each in features if not each.nullable or each.name in found.frame)
        refuse_unasked(found.frame, asked)
    return _Counted(rows=len(found.frame))


def _refuse_undecided(found: "Snapshot") -> None:
    """Refuse rows by which no version can be told from another."""
    name, target = found.description.target, found.target
    if target.nunique() < 2:
        raise NotServable(
            f"the target {name!r} has one value only, {str(target.iloc[0])[:60]!r}",
            next="add rows of another value: nothing is decided by one alone",
        )


def _refuse_other(found: "Snapshot", served: Description) -> None:
    """Refuse rows of which something else is to be said than of the rows of what serves."""
    described, output = found.description, served.output
    for what, is_, wanted in (("task", described.task, served.task), ("target", described.target, output.target)):
        if is_ != wanted:
            raise NotServable(
                f"the {what} of the evaluation set is {is_}, and {wanted} that of what serves", next=_ADVICE
            )
    strange = (
        set() if served.task is Task.REGRESSION else {*found.target.astype(str)} - {*map(label_text, output.classes)}
    )
    if strange:
        named = one_line(", ".join(map(repr, sorted(strange)[:5])), 300)
        raise NotServable(f"the evaluation set holds classes that what serves does not know: {named}", next=_ADVICE)
