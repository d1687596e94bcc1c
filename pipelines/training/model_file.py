"""model.yaml, the one description of a model's data, features and estimator: unknown keys are refused."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError, model_validator

from pipelines.documents import DocumentError, read_yaml
from pipelines.domain.names import checked_name
from pipelines.errors import UsageError

Name = Annotated[StrictStr, Field(min_length=1, max_length=128)]
# So many wrong keys are named at once.
_NAMED_KEYS = 50
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(_Strict):
    """The raw CSV file, relative to the project root, and the SHA-256 it must have."""

    path: Name
    sha256: Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$")]


class Numeric(_Strict):
    """A numeric feature: declared bounds are enforced when serving; `blank` is what an empty text means.

    `one_hot` encodes each whole number from `minimum` to `maximum` by itself, as a flag wants it.
    """

    type: Literal["integer", "number"]
    minimum: float | None = None
    maximum: float | None = None
    blank: float | None = None
    one_hot: bool = False

    @model_validator(mode="after")
    def _bounds_fit_the_type(self) -> Self:
        bounds = [bound for bound in (self.minimum, self.maximum) if bound is not None]
        if bounds != sorted(bounds):
            raise ValueError("minimum is above maximum")
        if self.type == "integer" and any(not bound.is_integer() for bound in bounds):
            raise ValueError("bounds of an integer feature must be whole numbers")
        if self.one_hot and (self.type != "integer" or len(bounds) != 2):
            raise ValueError("one_hot needs an integer feature with minimum and maximum")
        return self


class Categorical(_Strict):
    """A categorical feature: without declared categories, those observed in the source hold."""

    categories: tuple[StrictStr, ...] = ()


class Split(_Strict):
    """How rows are divided, stratified by the target; fractions are of all rows."""

    evaluation: Fraction
    reference: Fraction
    seed: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _leaves_rows_to_train(self) -> Self:
        if self.evaluation + self.reference > 1.0:
            raise ValueError("evaluation + reference is more than all rows")
        return self


_ClassPath = Annotated[StrictStr, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
_ModulePath = Annotated[StrictStr, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]


class Estimator(_Strict):
    """A classifier with its parameters: by import path, or made by `make_estimator(features)` of an own `module`.

    A parameter can itself be `{path, parameters}`. Unless `encoded`, it gets the columns themselves, by name.
    """

    path: _ClassPath | None = None
    module: _ModulePath | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    encoded: bool = True

    @model_validator(mode="after")
    def _names_one_source(self) -> Self:
        if (self.path is None) == (self.module is None):
            raise ValueError("give either path or module")
        return self

    @property
    def source(self) -> str:
        """What it is called by: the import path, or the module."""
        return self.path or str(self.module)


class ModelFile(_Strict):
    """A whole model.yaml."""

    name: Name
    source: Source
    target: Name
    positive: StrictStr
    id_columns: tuple[Name, ...] = ()
    numeric: dict[Name, Numeric]
    categorical: dict[Name, Categorical]
    protected: tuple[Name, ...] = ()
    split: Split
    estimator: Estimator

    @model_validator(mode="after")
    def _columns_have_one_role(self) -> Self:
        roles = [self.target, *self.id_columns, *self.numeric, *self.categorical]
        twice = sorted({name for name in roles if roles.count(name) > 1})
        if twice:
            raise ValueError(f"columns with two roles: {', '.join(twice)}")
        strangers = sorted(set(self.protected) - set(self.features))
        if strangers:
            raise ValueError(f"protected attributes that are no features: {', '.join(strangers)}")
        if not self.features:
            raise ValueError("no features")
        return self

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all features, numeric ones first."""
        return (*self.numeric, *self.categorical)

    @classmethod
    def load(cls, path: Path) -> "ModelFile":
        """Read and check `path`; raise UsageError that names every wrong key, the first of many."""
        try:
            model = cls.model_validate(read_yaml(path))
        except DocumentError as error:
            raise UsageError(f"{path} can't be read: {error}", next="write a model.yaml") from error
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(str(part) for part in item['loc']) or 'file'}: {item['msg']}"
                for item in error.errors()[:_NAMED_KEYS]
            )
            raise UsageError(f"{path} is not a model description: {wrong}", next=f"correct {path}") from error
        checked_name(model.name, what="model name")
        return model

    def flattened(self) -> dict[str, str]:
        """Return every setting as `dotted.key -> text`, the form MLflow keeps parameters in."""
        return dict(_flat("", self.model_dump(mode="json", exclude_defaults=True)))


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [pair for key, inner in value.items() for pair in _flat(f"{prefix}.{key}".lstrip("."), inner)]
    if isinstance(value, list):
        return [(prefix, ",".join(str(item) for item in value))]
    return [(prefix, str(value))]
