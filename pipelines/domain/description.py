"""The format of `bundle.json`: what packaging writes, gates read, and the service reads by its own light reader.

docs/reference/bundle.schema.json is its schema, which both readers are held to. Numbers keep their kind, so that the
same content has the same canonical bytes. This is format 2; what format 1 said is read in its words.
"""

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

from pipelines.domain.formats import refuse_newer
from pipelines.errors import DeployFailed

VERSION: Literal[2] = 2

Number = StrictInt | StrictFloat
# The value of a class, of the type that the target has in the data.
Label = StrictBool | StrictInt | StrictFloat | StrictStr
# What a request carries in a field; None where a value is missing.
Value = Label | None
Digest = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]


class Task(StrEnum):
    """What a model answers: the probability of one class, of each class, or a number."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_serialization_defaults_required=True)

    def as_json(self) -> dict[str, Any]:
        """Return the form that stands in `bundle.json`."""
        return self.model_dump(mode="json")


class Range(_Part):
    """The values seen in the data; informs only."""

    minimum: Number
    maximum: Number


class _Feature(_Part):
    name: str
    nullable: bool = Field(False, description="whether it may be null, or left out, which is the same")


class CategoryFeature(_Feature):
    """A feature that takes one of its categories."""

    type: Literal["category"]
    categories: tuple[str, ...]


class NumericFeature(_Feature):
    """A feature that takes a number; values outside the declared bounds are refused."""

    type: Literal["integer", "number"]
    minimum: Number | None = Field(description="declared; null for none")
    maximum: Number | None = Field(description="declared; null for none")
    observed: Range | None


class TextFeature(_Feature):
    """A feature that takes a text of at most so many characters."""

    type: Literal["text"]
    maximum_length: int = Field(ge=1)


class PlainFeature(_Feature):
    """A feature that takes true or false, an ISO 8601 date, or an ISO 8601 date and time (in UTC without an offset)."""

    type: Literal["boolean", "date", "datetime"]


WrittenFeature = Annotated[CategoryFeature | NumericFeature | TextFeature | PlainFeature, Field(discriminator="type")]


class Output(_Part):
    """What is predicted; `classes` stand in the order of the model's columns, none for a regression."""

    target: str
    classes: tuple[Label, ...]
    positive: Label | None = Field(description="the class whose probability is answered; null where that of each is")


class ModelInput(_Part):
    """An ONNX input of shape [N, n]: a column for each of its features."""

    name: str
    dtype: Literal["float32", "float64", "int64", "bool", "string"]
    features: tuple[str, ...]


class Onnx(_Part):
    """Names in the ONNX graph: of a classifier's labels and probabilities, or of a regression's value."""

    inputs: tuple[ModelInput, ...]
    label: str | None
    probabilities: str | None
    value: str | None


class Answer(_Part):
    """What a row was answered; `probability` is P(positive)."""

    prediction: Label
    probability: Number


class ClassAnswer(_Part):
    """What a row was answered by a model of several classes: the probability of each, by the class as text."""

    prediction: Label
    probabilities: dict[str, Number]


class ValueAnswer(_Part):
    """What a row was answered by a regression."""

    prediction: Number


AnyAnswer = Answer | ClassAnswer | ValueAnswer
_TOLERANCE = 1e-5


def tolerance_of(answers: Iterable[AnyAnswer]) -> float:
    """Return how far a number of an answer may be off.

    That is 1e-5 for a probability; of a regression the same share of its largest value, which is 1 at least. It stands
    in the bundle, since a replica compares by it, but nobody else chooses it.
    """
    values = [abs(each.prediction) for each in answers if isinstance(each, ValueAnswer)]
    return _TOLERANCE * max([1.0, *values])


def difference(answer: AnyAnswer, expected: AnyAnswer) -> float:
    """Return the largest difference of a number in two answers; infinite where the classes or the tasks differ."""
    if isinstance(answer, ValueAnswer) and isinstance(expected, ValueAnswer):
        return abs(answer.prediction - expected.prediction)
    found, wanted = (label_text(each.prediction) for each in (answer, expected))
    if type(answer) is not type(expected) or found != wanted:
        return math.inf
    if isinstance(answer, Answer) and isinstance(expected, Answer):
        return abs(answer.probability - expected.probability)
    assert isinstance(answer, ClassAnswer) and isinstance(expected, ClassAnswer)
    if answer.probabilities.keys() != expected.probabilities.keys():
        return math.inf
    return max(abs(number - expected.probabilities[text]) for text, number in answer.probabilities.items())


def label_text(label: Label) -> str:
    """Return a class as a model's label output says it, and as a key of JSON."""
    if isinstance(label, bool):
        return "true" if label else "false"
    return str(label)


class Golden(_Part):
    """Rows with the answers they had at packaging; `tolerance` is on each number of an answer."""

    rows: tuple[dict[str, Value], ...]
    expected: tuple[AnyAnswer, ...]
    tolerance: float


class _Known(_Part):
    """A part that leaves out what it has a default for: who knew nothing of it wrote the same bytes."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)


class Datasets(_Known):
    """Digests of the data; `train` is null where the version does not say."""

    train: str | None
    evaluation: str
    training_rows: Digest | None = Field(
        None, description="of the hashes of the rows that it was trained on; absent where the version does not say"
    )
    reference: Digest | None = Field(
        None, description="of the training rows that drift is measured against; absent where the version has none"
    )


class Provenance(_Known):
    """Where the model comes from; null is what its version does not say."""

    run_id: str | None
    git_commit: str | None
    datasets: Datasets
    dependencies: str = Field(description="the digest of the dependency set that was logged")
    breaking: str | None = Field(
        None, description="why clients have to change for it, as model.yaml declares; absent where it does not"
    )


class Description(_Part):
    """A bundle: its schema, its model's inputs and outputs, its golden rows, where it comes from, and its files."""

    schema_version: Literal[2] = VERSION
    model: str
    task: Task
    features: tuple[WrittenFeature, ...]
    output: Output
    onnx: Onnx
    golden: Golden
    provenance: Provenance
    files: dict[str, Digest] = Field(description="the SHA-256 of every other file of the bundle")

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> "Description":
        """Read a parsed `bundle.json` of any format so far.

        Raises UsageError for a newer Slipway's, DeployFailed for one that is none.
        """
        refuse_newer("bundle.json", found=body.get("schema_version"), known=VERSION)
        try:
            return cls.model_validate(_from_format_1(body) if body.get("schema_version") == 1 else body)
        except (ValidationError, KeyError, TypeError, AttributeError) as invalid:
            reason = repr(invalid)
            if isinstance(invalid, ValidationError):
                first = invalid.errors(include_url=False)[0]
                reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise DeployFailed(
                f"bundle.json is not understood: {reason}", next='run "make deploy-staging" again'
            ) from None

    def as_json(self) -> dict[str, Any]:
        """Return the form that stands in `bundle.json`."""
        body = super().as_json()
        body["provenance"] = self.provenance.model_dump(mode="json", exclude_defaults=True)
        return body

    def in_format_1(self) -> dict[str, Any] | None:
        """Return the form that a Slipway of format 1 wrote of the same content; None where it had none.

        A version that was pinned then keeps its digest by it.
        """
        plain = all(each.type in ("category", "integer", "number") and not each.nullable for each in self.features)
        alone = all(each.features == (each.name,) and each.dtype != "bool" for each in self.onnx.inputs)
        if not (self.task is Task.BINARY and plain and alone and all(isinstance(c, str) for c in self.output.classes)):
            return None
        body = self.as_json()
        del body["task"], body["onnx"]["value"]
        for feature in body["features"]:
            del feature["nullable"]
        for each in body["onnx"]["inputs"]:
            del each["features"]
        body["onnx"]["positive_index"] = self.output.classes.index(self.output.positive)
        return body | {"schema_version": 1}


def _from_format_1(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what format 1 said in the words of format 2: text labels, one input a feature, P(positive) answered."""
    onnx = dict(body["onnx"])
    index, output = onnx.pop("positive_index"), body["output"]
    if dict(enumerate(output["classes"])).get(index) != output["positive"]:
        raise KeyError(f"class {index} of {output['classes']} is not {output['positive']}")
    onnx |= {"value": None, "inputs": [{**each, "features": [each["name"]]} for each in onnx["inputs"]]}
    return {**body, "schema_version": VERSION, "task": Task.BINARY, "onnx": onnx}


def describe() -> dict[str, Any]:
    """Return the JSON Schema of `bundle.json`."""
    return Description.model_json_schema(mode="serialization")
