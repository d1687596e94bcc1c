"""What bundle.json says, as the service reads it: format 2, and format 1 in the words of format 2."""

from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

# The value of a class, of the type that the target has in the data.
Label = str | int | float | bool


class Task(StrEnum):
    """What a model answers: one probability, one for each class, or a number."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


class FeatureType(StrEnum):
    """What a request may carry in a feature."""

    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    TEXT = "text"
    DATE = "date"
    DATETIME = "datetime"


class Dtype(StrEnum):
    """Element type of an ONNX input."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"
    INT64 = "int64"
    BOOL = "bool"
    STRING = "string"


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of bundle.json: a key that it does not know is refused."""


class Range(_Part, frozen=True):
    """The values seen in the data; informs only."""

    minimum: float
    maximum: float


class Feature(_Part, frozen=True):
    """One field of a request; values outside `minimum` and `maximum` are refused, both included.

    A text has at most `maximum_length` characters. A nullable one may be null, or left out, which is the same.
    """

    name: str
    type: FeatureType
    minimum: float | None = None
    maximum: float | None = None
    observed: Range | None = None
    categories: tuple[str, ...] = ()
    maximum_length: int | None = None
    nullable: bool = False


class Output(_Part, frozen=True):
    """What is predicted; `classes` stand in the order of the model's columns, none for a number.

    `positive` is the class whose probability is answered, None where that of each class is.
    """

    target: str
    classes: tuple[Label, ...]
    positive: Label | None


class Input(_Part, frozen=True):
    """An ONNX input of shape [N, n]: a column for each of its features."""

    name: str
    dtype: Dtype
    features: tuple[str, ...]


class Onnx(_Part, frozen=True):
    """Names in the ONNX graph: of a classifier's labels and probabilities, or of a regression's value."""

    inputs: tuple[Input, ...]
    label: str | None
    probabilities: str | None
    value: str | None


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What is answered for a row."""

    prediction: Annotated[Label, Meta(description="The predicted class.")]
    probability: Annotated[float, Meta(ge=0, le=1, description="P(positive class).")]


class ClassAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is answered for a row by a model of several classes."""

    prediction: Annotated[Label, Meta(description="The predicted class.")]
    probabilities: Annotated[dict[str, float], Meta(description="The probability of each class, by its text.")]


class ValueAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What is answered for a row by a regression."""

    prediction: Annotated[float, Meta(description="The predicted number.")]


AnyAnswer = Answer | ClassAnswer | ValueAnswer
_ANSWERS: dict[Task, type[AnyAnswer]] = {
    Task.BINARY: Answer,
    Task.MULTICLASS: ClassAnswer,
    Task.REGRESSION: ValueAnswer,
}


class Golden(_Part, frozen=True):
    """Rows with the answers they had at packaging; `tolerance` is on each number of an answer."""

    rows: tuple[dict[str, Any], ...]
    expected: tuple[dict[str, Any], ...]
    tolerance: float


class Description(_Part, frozen=True):
    """The content of bundle.json."""

    schema_version: Literal[2]
    model: str
    task: Task
    features: tuple[Feature, ...]
    output: Output
    onnx: Onnx
    golden: Golden
    provenance: dict[str, Any]
    files: dict[str, str]


def read_answers(description: Description) -> list[AnyAnswer]:
    """Return the golden rows' answers; raise msgspec.ValidationError for those of another task."""
    return [msgspec.convert(each, _ANSWERS[description.task]) for each in description.golden.expected]


class _Output1(_Part, frozen=True):
    target: str
    classes: tuple[str, ...]
    positive: str


class _Input1(_Part, frozen=True):
    name: str
    dtype: Dtype


class _Onnx1(_Part, frozen=True):
    inputs: tuple[_Input1, ...]
    label: str
    probabilities: str
    positive_index: int


class _Description1(_Part, frozen=True):
    """Format 1: a classifier of text labels, with an input of shape [N, 1] for each feature of its name."""

    schema_version: Literal[1]
    model: str
    features: tuple[Feature, ...]
    output: _Output1
    onnx: _Onnx1
    golden: Golden
    provenance: dict[str, Any]
    files: dict[str, str]


class _Version(msgspec.Struct):
    schema_version: int


def read_description(encoded: bytes) -> Description:
    """Read bundle.json; raise msgspec.DecodeError for what is none of the known formats."""
    if msgspec.json.decode(encoded, type=_Version).schema_version == 1:
        return _in_format_2(msgspec.json.decode(encoded, type=_Description1))
    return msgspec.json.decode(encoded, type=Description)


def _in_format_2(one: _Description1) -> Description:
    classes, index = one.output.classes, one.onnx.positive_index
    if dict(enumerate(classes)).get(index) != one.output.positive:
        raise msgspec.ValidationError(f"class {index} of {classes} is not {one.output.positive}")
    return Description(
        schema_version=2,
        model=one.model,
        task=Task.BINARY,
        features=one.features,
        output=Output(one.output.target, classes, one.output.positive),
        onnx=Onnx(
            inputs=tuple(Input(each.name, each.dtype, (each.name,)) for each in one.onnx.inputs),
            label=one.onnx.label,
            probabilities=one.onnx.probabilities,
            value=None,
        ),
        golden=one.golden,
        provenance=one.provenance,
        files=one.files,
    )
