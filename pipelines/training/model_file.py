"""model.yaml, the one description of a model's data, features and estimator: unknown keys are refused."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictStr,
    ValidationError,
    model_validator,
)

from pipelines.documents import DocumentError, read_yaml
from pipelines.domain.card import CARD_TAGS
from pipelines.domain.description import Label, Task
from pipelines.domain.names import checked_name
from pipelines.domain.texts import checked_text
from pipelines.errors import UsageError
from pipelines.packaging.snapshot import IDENTITY_COLUMN
from pipelines.training.feature_rules import ColumnName, Name, Numeric, Rule, Strict, twice

# What Pydantic says in terms of Python.
_IN_WORDS = {
    "dict_type": "give keys with their values",
    "extra_forbidden": "there is no such key",
    "missing": "it is not given",
    "model_attributes_type": "give keys with their values",
    "model_type": "give keys with their values",
    "string_type": "give a text",
    "tuple_type": "give a list",
    "union_tag_invalid": "its type is none of integer, number, boolean, category, date, datetime, text",
    "union_tag_not_found": "give its type: integer, number, boolean, category, date, datetime or text",
}
# So many wrong keys are named at once.
_NAMED_KEYS = 50
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]


def _model_name(name: str) -> str:
    try:
        return checked_name(name, what="model name")
    except UsageError as error:
        raise ValueError(f"{error.message}; {error.next}") from error


def instant(text: str) -> datetime:
    """Return an ISO 8601 date or date-time as a time of UTC, which one without a zone is taken to be.

    Raises ValueError for anything else.
    """
    value = datetime.fromisoformat(text)
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text} is no time of UTC") from error


def _declared_instant(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError('write a date in quotes, as "2025-01-31": DVC reads this file too, and takes no other')
    return instant(value)


class Source(Strict):
    """The raw data, a path relative to the project root, and how it is written.

    `format` is told by the ending of the name where it is not given. What of a CSV file's `encoding`, `separator`,
    `quote` and `decimal` sign is not given is read off the file. `missing` are the texts that stand for no value,
    beside the empty one. A `sha256` has to be the file's; DVC records what it was in any case.
    """

    path: Name
    sha256: Annotated[StrictStr, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    format: Literal["csv", "parquet"] | None = None
    encoding: Annotated[StrictStr, Field(min_length=1)] | None = None
    separator: Annotated[StrictStr, Field(min_length=1, max_length=1)] | None = None
    quote: Annotated[StrictStr, Field(min_length=1, max_length=1)] | None = None
    decimal: Literal[".", ","] | None = None
    missing: tuple[StrictStr, ...] = ()

    @model_validator(mode="after")
    def _fields_can_be_told_apart(self) -> Self:
        if self.separator in ("\n", "\r", "\0") or self.quote in ("\n", "\r", "\0"):
            raise ValueError("separator and quote can't be line ends")
        if (self.quote or '"') == self.separator:
            raise ValueError("separator and quote can't be the same")
        return self


class Split(Strict):
    """Which part a row belongs to, for good: by a hash of its id, or by its time.

    With `by: hash`, `evaluation` and `reference` are fractions of all rows. With `by: time`, rows whose `column`
    is at `evaluation_from` or later evaluate, and `reference` is a fraction of the others.
    """

    by: Literal["hash", "time"] = "hash"
    evaluation: Fraction | None = None
    column: Name | None = None
    evaluation_from: Annotated[datetime, BeforeValidator(_declared_instant)] | None = None
    reference: Fraction
    seed: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _says_what_its_kind_needs(self) -> Self:
        given = {
            "evaluation": self.evaluation,
            "column": self.column,
            "evaluation_from": self.evaluation_from,
        }
        needed = {"evaluation"} if self.by == "hash" else {"column", "evaluation_from"}
        wrong = sorted(name for name, value in given.items() if (value is None) == (name in needed))
        if wrong:
            raise ValueError(f"by: {self.by} needs {' and '.join(sorted(needed))} alone; wrong: {', '.join(wrong)}")
        if self.evaluation is not None and self.evaluation + self.reference > 1.0:
            raise ValueError("evaluation + reference is more than all rows")
        return self


_ClassPath = Annotated[StrictStr, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
_ModulePath = Annotated[StrictStr, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]


class Estimator(Strict):
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


def _reason(text: str) -> str:
    if not text.strip():
        raise ValueError("say what breaks for clients, and why that has to be")
    return checked_text(text.strip())


class SchemaChange(Strict):
    """Says that clients of the version in production have to change for this one, and why."""

    change: Literal["breaking"]
    reason: Annotated[StrictStr, AfterValidator(_reason)]


def _told(text: str) -> str:
    if not text.strip():
        raise ValueError("say something, or leave it out")
    return checked_text(text.strip())


_Told = Annotated[StrictStr, AfterValidator(_told)]


class Card(Strict):
    """What a person says of the model for its card, each a text of one paragraph."""

    intended_use: _Told | None = None
    limitations: _Told | None = None
    owner: _Told | None = None
    contact: _Told | None = None
    ethics: _Told | None = None

    @property
    def tags(self) -> dict[str, str]:
        """The tags of a run that say it."""
        said = self.model_dump(exclude_none=True)
        return {CARD_TAGS[key]: text for key, text in said.items()}


class ModelFile(Strict):
    """A whole model.yaml; columns in `ignore` have no role.

    Rows without a target are refused, or with `unlabelled: drop` left out.
    The task is binary where a positive label is given. Labels are answered as the type that `labels` says: that of the
    positive one, or else text.
    """

    name: Annotated[Name, AfterValidator(_model_name)]
    source: Source
    target: Name
    task: Task | None = None
    positive: Label | None = None
    labels: Literal["text", "integer", "number", "boolean"] | None = None
    unlabelled: Literal["refuse", "drop"] = "refuse"
    id_columns: tuple[ColumnName, ...] = ()
    features: Annotated[dict[Name, Rule], Field(min_length=1)]
    ignore: tuple[ColumnName, ...] = ()
    protected: tuple[Name, ...] = ()
    split: Split
    estimator: Estimator
    schema_change: SchemaChange | None = Field(None, alias="schema")
    card: Card = Card()

    @model_validator(mode="after")
    def _task_fits_the_labels(self) -> Self:
        if self.task is None and self.positive is None:
            raise ValueError(
                "give positive, the label whose probability is answered, or task: multiclass or regression"
            )
        if self.kind is Task.BINARY and self.positive is None:
            raise ValueError("task: binary needs positive, the label whose probability is answered")
        if self.kind is not Task.BINARY and self.positive is not None:
            raise ValueError(f"task: {self.kind} has no positive label")
        if self.kind is Task.REGRESSION and self.labels is not None:
            raise ValueError("task: regression has no labels")
        if self.positive is not None and self.labels is not None and _label_type(self.positive) != self.labels:
            raise ValueError(f"positive: {self.positive!r} is no label of type {self.labels}")
        return self

    @property
    def kind(self) -> Task:
        """The task, said or meant."""
        return self.task or Task.BINARY

    @property
    def label_type(self) -> str:
        """What labels are answered as: text, integer, number or boolean."""
        return self.labels or ("text" if self.positive is None else _label_type(self.positive))

    @property
    def numeric(self) -> dict[str, Numeric]:
        """The features that are numbers."""
        return {name: rule for name, rule in self.features.items() if isinstance(rule, Numeric)}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns that the source must have."""
        time = (self.split.column,) if self.split.column else ()
        return tuple(dict.fromkeys((*self.id_columns, *time, *self.features, self.target)))

    @classmethod
    def load(cls, path: Path) -> "ModelFile":
        """Read and check `path`; raise UsageError that names every wrong key by its place, the first of many."""
        try:
            body = read_yaml(path)
        except DocumentError as error:
            ways = f"correct {path}" if path.exists() else "write it, or have it proposed: slipway model init"
            raise UsageError(f"{path} can't be read: {error}", next=ways) from error
        return cls.read(body, path)

    @classmethod
    def read(cls, body: Any, path: Path) -> "ModelFile":
        """Check the content of `path`; raise as `load` does."""
        faults: list[str] = []
        if isinstance(body, dict):
            body, faults = _one_section(body)
            faults += _wrong_roles(body)
        try:
            model = cls.model_validate(body)
        except ValidationError as error:
            faults += dict.fromkeys(_fault(item["loc"], item["type"], item["msg"]) for item in error.errors())
        if faults:
            raise UsageError(
                f"{path} is not a model description: {'; '.join(faults[:_NAMED_KEYS])}", next=f"correct {path}"
            )
        return model

    def flattened(self) -> dict[str, str]:
        """Return every setting as `dotted.key -> text`, the form MLflow keeps parameters in."""
        # What the card says is long, and stands in tags of its own.
        return dict(_flat("", self.model_dump(mode="json", exclude_defaults=True, exclude={"card"})))


def _label_type(label: Label) -> str:
    # A truth is a whole number to Python.
    kinds = {"boolean": bool, "integer": int, "number": float}
    return next((name for name, kind in kinds.items() if isinstance(label, kind)), "text")


def _one_section(body: dict[Any, Any]) -> tuple[dict[Any, Any], list[str]]:
    """Return a description whose features stand in one section, and what stands in two of them.

    `numeric` and `categorical` are how they were written before.
    """
    former = {name: body[name] for name in ("numeric", "categorical") if isinstance(body.get(name), dict)}
    if not former or not isinstance(body.get("features", {}), dict):
        return body, []
    features: dict[Any, Any] = {}
    faults = []
    for section, rules in (("features", body.get("features", {})), *former.items()):
        for name, rule in rules.items():
            if name in features:
                faults.append(f"{section}.{name}: stands in two sections of features")
            is_category = section == "categorical" and isinstance(rule, dict)
            features[name] = {"type": "category", **rule} if is_category else rule
    return {**{name: value for name, value in body.items() if name not in former}, "features": features}, faults


def _wrong_roles(body: Mapping[Any, Any]) -> list[str]:
    """Return what is wrong with the roles of columns, whatever else is wrong in a description."""
    split = body.get("split")
    column = split.get("column") if isinstance(split, dict) else None
    features = _texts(body.get("features"))
    ids, ignored, target = _texts(body.get("id_columns")), _texts(body.get("ignore")), _texts([body.get("target")])
    faults = [f"columns with two roles: {name}" for name in twice([*target, *ids, *features, *ignored])]
    if column in (*target, *ignored):
        faults.append(f"split.column: {column} can't be the target, nor be ignored")
    if IDENTITY_COLUMN in (*target, *features):
        faults.append(f"{IDENTITY_COLUMN}: the name is Slipway's own in a snapshot")
    strangers = sorted(set(_texts(body.get("protected"))) - set(features))
    if strangers:
        faults.append(f"protected: attributes that are no features: {', '.join(strangers)}")
    return faults


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list | tuple | dict) else []


def _fault(location: tuple[int | str, ...], kind: str, message: str) -> str:
    # Each type that a label could have had complains.
    if location[:1] == ("positive",):
        return "positive: give a text, a number, true or false"
    return f"{_place(location)}: {_IN_WORDS.get(kind, message)}"


def _place(location: tuple[int | str, ...]) -> str:
    # Pydantic names the kind of a feature between its name and its key.
    is_feature = location[:1] == ("features",) and len(location) > 2
    parts = (*location[:2], *location[3:]) if is_feature else location
    return ".".join(map(str, parts)) or "file"


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [pair for key, inner in value.items() for pair in _flat(f"{prefix}.{key}".lstrip("."), inner)]
    if isinstance(value, list):
        return [(prefix, ",".join(str(item) for item in value))]
    return [(prefix, str(value))]
