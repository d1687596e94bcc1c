"""The format of `bundle.json`: what packaging writes, gates read, and the service reads by its own light reader.

docs/reference/bundle.schema.json is its schema, which both readers are held to. Numbers keep their kind, so that the
same content has the same canonical bytes.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.domain.formats import refuse_newer
from pipelines.errors import DeployFailed

VERSION: Literal[1] = 1

Number = int | float
Digest = Annotated[str, Field(pattern="^sha256:[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_serialization_defaults_required=True)

    def as_json(self) -> dict[str, Any]:
        """Return the form that stands in `bundle.json`."""
        return self.model_dump(mode="json")


class Range(_Part):
    """The values seen in the data; informs only."""

    minimum: Number
    maximum: Number


class CategoryFeature(_Part):
    """A feature that takes one of its categories."""

    name: str
    type: Literal["category"]
    categories: tuple[str, ...]


class NumericFeature(_Part):
    """A feature that takes a number; values outside the declared bounds are refused."""

    name: str
    type: Literal["integer", "number"]
    minimum: Number | None = Field(description="declared; null for none")
    maximum: Number | None = Field(description="declared; null for none")
    observed: Range | None


WrittenFeature = Annotated[CategoryFeature | NumericFeature, Field(discriminator="type")]


class Output(_Part):
    """What is predicted; `classes` are the label values as text, in the order of the model's columns."""

    target: str
    classes: tuple[str, ...]
    positive: str


class ModelInput(_Part):
    """An ONNX input of shape [N, 1]."""

    name: str
    dtype: Literal["float32", "float64", "int64", "string"]


class Onnx(_Part):
    """Names in the ONNX graph; `positive_index` is the column of P(positive)."""

    inputs: tuple[ModelInput, ...]
    label: str
    probabilities: str
    positive_index: int


class Answer(_Part):
    """What a row was answered; `probability` is P(positive)."""

    prediction: str
    probability: Number


# Of every bundle that is made. It stands in the bundle, since a replica compares by it, but nobody else chooses it.
GOLDEN_TOLERANCE = 1e-5


class Golden(_Part):
    """Rows with the answers they had at packaging; `tolerance` is on the probability."""

    rows: tuple[dict[str, int | float | str], ...]
    expected: tuple[Answer, ...]
    tolerance: float


class Datasets(_Part):
    """Digests of the data; `train` is null where the version does not say."""

    train: str | None
    evaluation: str


class Provenance(_Part):
    """Where the model comes from; null is what its version does not say."""

    run_id: str | None
    git_commit: str | None
    datasets: Datasets
    dependencies: str = Field(description="the digest of the dependency set that was logged")


class Description(_Part):
    """A bundle: its schema, its model's inputs and outputs, its golden rows, where it comes from, and its files."""

    schema_version: Literal[1] = VERSION
    model: str
    features: tuple[WrittenFeature, ...]
    output: Output
    onnx: Onnx
    golden: Golden
    provenance: Provenance
    files: dict[str, Digest] = Field(description="the SHA-256 of every other file of the bundle")

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> "Description":
        """Read a parsed `bundle.json`; raise UsageError for a newer Slipway's, DeployFailed for one that is none."""
        refuse_newer("bundle.json", found=body.get("schema_version"), known=VERSION)
        try:
            return cls.model_validate(body)
        except ValidationError as invalid:
            first = invalid.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise DeployFailed(
                f"bundle.json is not understood: {where}: {first['msg']}", next='run "make deploy-staging" again'
            ) from None


def describe() -> dict[str, Any]:
    """Return the JSON Schema of `bundle.json`."""
    return Description.model_json_schema(mode="serialization")
