"""What goes into a confined job and what comes back: the only words between who has the keys and who reads files.

An answer is believed only in this form. Whatever read the files of a stranger may be in that stranger's hands, so the
words of a refusal are made one line of characters that people see.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import from_json

from pipelines.domain.description import Golden, Onnx, Output, Task, Value, WrittenFeature, tolerance_of
from pipelines.domain.texts import one_line
from pipelines.errors import JobFailed, NotServable

# How many rows of an evaluation set are kept as requests.
REQUEST_ROWS = 1000
# Names of a packaging job's files in its directory.
MODEL, EVALUATION, PREDICTIONS = "model", "evaluation.parquet", "predictions.parquet"
TRAINING_ROWS, REFERENCE = "training-rows.parquet", "reference.parquet"
_SAID = 2000

# Runs a task over files by their names there, and returns what is answered.
Run = Callable[[bytes, Mapping[str, Path]], bytes]


class Form(BaseModel):
    """Exactly these fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


A = TypeVar("A", bound=Form)


class PackagingTask(Form):
    """Asks what the files of a version say; `features` are those of its bundle, None while there is none."""

    kind: Literal["packaging"] = "packaging"
    version: str = Field(description="How the version is called in a refusal.")
    model: str = Field("NAME", description="What a refusal advises to call the model.")
    number: str = Field("n", description="The version's number, for what a refusal advises.")
    features: tuple[WrittenFeature, ...] | None
    predictions: bool = Field(description="Whether the training's own predictions are among the files.")
    training_rows: bool = Field(False, description="Whether the hashes of the training's rows are among the files.")
    reference: bool = Field(False, description="Whether the rows that drift is measured against are among the files.")


class Read(Form):
    """What the files say of the model; the rest of a bundle's description is known without reading them."""

    task: Task
    features: tuple[WrittenFeature, ...]
    output: Output
    onnx: Onnx
    golden: Golden

    @field_validator("golden")
    @classmethod
    def _of_the_one_tolerance(cls, golden: Golden) -> Golden:
        # Who reads a stranger's files must not say how far its model may be off.
        if golden.tolerance != (right := tolerance_of(golden.expected)):
            raise ValueError(f"its tolerance is {golden.tolerance:g} in place of {right:g}")
        return golden


class Parsed(Form):
    """The name of the model's file, rows of the evaluation set as requests, and what is read where no bundle was."""

    model_file: str = Field(max_length=128)
    rows: tuple[dict[str, Value], ...] = Field(max_length=REQUEST_ROWS)
    read: Read | None


class _Refused(Form):
    message: str
    next: str


def ask(run: Run, task: Form, files: Mapping[str, Path], answer: type[A]) -> A:
    """Have a task done in a confined job and return its answer.

    Raises NotServable for what the job refuses, and JobFailed for an answer that is none.
    """
    content = run(task.model_dump_json().encode(), files)
    try:
        body = from_json(content, allow_inf_nan=False)
        if isinstance(body, dict) and set(body) == {"refused"}:
            refused = _Refused.model_validate(body["refused"])
            raise NotServable(one_line(refused.message, _SAID), next=one_line(refused.next, _SAID))
        return answer.model_validate(body)
    except (ValueError, ValidationError) as error:
        raise JobFailed(
            f"the confined job answered what is no {answer.__name__}: {one_line(str(error), 300)}",
            next="see the executor's log; a model that makes its reader answer so is not to be served",
        ) from error


def without_rows(version: str) -> NotServable:
    """Return the refusal of a version that nothing can be measured on."""
    return NotServable(
        f"{version} brings no evaluation set, and no version that serves or passed has one",
        next="log slipway/evaluation.parquet on its run (slipway.log_evaluation), or have a version with one pass first"
        ' (see "make candidate")',
    )


def answered(do: Callable[[], Form]) -> bytes:
    """Return the answer of a confined job as `ask` reads it: what `do` returns, or what it refuses."""
    try:
        body: dict[str, Any] = do().model_dump(mode="json")
    except NotServable as refusal:
        body = {"refused": {"message": refusal.message[:_SAID], "next": refusal.next[:_SAID]}}
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as odd:
        # What nobody has foreseen in a stranger's files says nothing of their size.
        said = f"its files can't be read: {type(odd).__name__}: {odd}"
        body = {"refused": {"message": said[:_SAID], "next": "log the files that Slipway's own stages write"}}
    try:
        return json.dumps(body, allow_nan=False).encode()
    except ValueError:
        message = "its files hold a number that is infinite or none, outside of the rows as well"
        return json.dumps({"refused": {"message": message, "next": "give bounds and ranges that are numbers"}}).encode()
