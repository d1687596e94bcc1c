"""Proposes a model.yaml for a file of data: what each column is, and why, so that a person only has to agree.

What no type of feature can take is proposed to be ignored, with the reason; what would train another model than is
meant is refused.
"""

import dataclasses
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import NotServable, UsageError
from pipelines.packaging.onnx_model import refuse_unspeakable
from pipelines.training.feature_rules import MOST_NAME_CHARS
from pipelines.training.model_file import ModelFile, Source, instant
from pipelines.training.places import divided
from pipelines.training.reading import numbers as of
from pipelines.training.reading.columns import guessed_decimal, typed_frame, typed_label
from pipelines.training.reading.encoding import probable
from pipelines.training.reading.refusals import quoted
from pipelines.training.reading.source import is_parquet, read_source, usable_rows
from pipelines.training.reading.table import Table

_TWO = 2
# With more labels than this, numbers are meant and not classes.
MOST_LABELS = 50
# With more different texts than this, a column is free text rather than a category.
MOST_CATEGORIES = 100
# What people write for no value, where all else in a column are numbers.
_MARKERS = frozenset({"NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none", "-", "?", "."})
_WORDS = frozenset({"None", "none"})
_POSITIVE = ("yes", "true", "1", "1.0", "y", "t", "positive")
# What pandas calls the index of a frame in a file counts as an id as well.
_INDEX = r"^Unnamed: \d+(?:\.\d+)?$|^__index_level_\d+__$"
_ID_NAME = re.compile(rf"(?:^|[_\W])[iI][dD]$|(?:Id|ID)$|{_INDEX}")
# Whose rows belong together; COVID is no such id.
_GROUP_NAME = re.compile(rf"(?:^|[_\W])[iI][dD]$|[a-z]I[dD]$|{_INDEX}")
# A column in which fewer values than that are no numbers was meant to be one of numbers.
_FEW = 0.05
_SEEDS = range(10)
_FEATURES = ("integer", "number", "boolean", "category", "date", "datetime")
_TRUTHS = frozenset({"true", "false"})


@dataclass(frozen=True)
class Role:
    """What a column is proposed to be: "target", "id", "ignore" or a type of feature; and why.

    A `nullable` feature may be missing.
    """

    column: str
    role: str
    why: str
    nullable: bool = False


@dataclass(frozen=True)
class Proposal:
    """The content of a model.yaml, and the reasons for it in the order of the file's columns."""

    body: dict[str, Any]
    roles: tuple[Role, ...]


def propose(root: Path, path: str, *, target: str, name: str, ids: tuple[str, ...]) -> Proposal:
    """Return a description of the data in `path` (relative to `root`) that prepares as it stands.

    Raises UsageError where the file can't be read, has no such columns, or where nothing can be predicted.
    """
    source = Source(path=path)
    if not is_parquet(source):
        try:
            source = Source(path=path, encoding=probable((root / path).read_bytes()))
        except OSError as error:
            raise UsageError(f"{root / path} can't be read: {error}", next="name a file of the project") from error
    table = read_source(source, root)
    if target in ids:
        raise UsageError(f"{target} can't be both the target and an id", next="name other columns by --id")
    absent = [column for column in (target, *ids) if column not in table.columns]
    if absent:
        raise UsageError(
            f"{path} has no column {', '.join(map(quoted, absent))}",
            next=f"name some of {', '.join(map(quoted, table.columns))}",
        )
    judge = _Judge(table, target, ids)
    roles = tuple(judge.role(column) for column in table.columns)
    body = {
        "name": name,
        "source": {"path": path, **table.written, **judge.written()},
        "target": target,
        **judge.task(),
        **({"unlabelled": "drop"} if judge.unlabelled else {}),
        "id_columns": [each.column for each in roles if each.role == "id"],
        "features": {
            each.column: {"type": each.role, **({"nullable": True} if each.nullable else {})}
            for each in roles
            if each.role in _FEATURES
        },
        "ignore": [each.column for each in roles if each.role == "ignore"],
        "split": {"by": "hash", "evaluation": 0.2, "reference": 0.2, "seed": 0},
        "estimator": judge.estimator(),
    }
    if not body["features"]:
        reasons = "; ".join(f"{each.column}: {each.why}" for each in roles if each.role != "target")
        raise UsageError(f"no column of {path} can be a feature: {reasons}", next="give columns that can")
    return Proposal(_prepared(body, root), roles)


def _prepared(body: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return the description with the first seed that leaves every part enough rows; raise what prepare would."""
    model = ModelFile.read(body, root / "model.yaml")
    table = usable_rows(model, read_source(model.source, root))
    frame = typed_frame(model, table)
    refused: UsageError | None = None
    for seed in _SEEDS:
        tried = {**body, "split": {**body["split"], "seed": seed}}
        try:
            divided(ModelFile.read(tried, root / "model.yaml"), table, frame)
        except UsageError as error:
            refused = refused or error
        else:
            return tried
    assert refused is not None
    raise UsageError(refused.message, next="add rows, or join rare labels with others") from refused


def probable_positive(counts: Counter[str]) -> str:
    """Return the label that says yes, or else the rarest one."""
    said = [label for label in counts if label.strip().lower() in _POSITIVE]
    return said[0] if len(said) == 1 else min(counts, key=lambda label: (counts[label], label))


class _Judge:
    """Says what each column of a table is."""

    def __init__(self, table: Table, target: str, ids: tuple[str, ...]) -> None:
        self._target = target
        self._ids = ids
        others = [name for name in table.columns if name != target]
        self._decimal = guessed_decimal(table, others)
        found = {marker for name in table.columns for marker in self._markers_of(table.trimmed(name))}
        # A word for no number in another column is a label among labels of texts.
        labels = set() if self._markers_of(table.trimmed(target)) else set(table.trimmed(target).to_pylist())
        self._markers = sorted(found - labels.intersection(_WORDS))
        self._table = dataclasses.replace(table, missing=table.missing | set(self._markers))
        self._has_id = bool(ids)
        missing = self._table.is_missing(target)
        if missing.all():
            raise UsageError(f"target {target} is empty: there is nothing to be predicted", next="name another target")
        self.unlabelled = int(missing.sum())
        labelled = table.among(~missing)
        self._labels: Counter[str] = Counter(labelled.columns[target].to_pylist())
        numbers = of.parsed(labelled.trimmed(target), guessed_decimal(labelled, [target]))
        self._regresses = not np.isnan(numbers).any() and len(self._labels) > min(MOST_LABELS, len(labelled) / 2)

    def task(self) -> dict[str, Any]:
        """Return what is to be predicted; raise UsageError for a target of free text."""
        if self._regresses:
            return {"task": "regression"}
        if len(self._labels) > MOST_LABELS:
            raise UsageError(
                f"target {self._target} holds {len(self._labels):,} different texts",
                next="name a target of numbers or of few classes, or make classes of its values",
            )
        kind = self._label_type()
        if len(self._labels) > _TWO:
            return {"task": "multiclass", "labels": kind}
        return {"positive": typed_label(probable_positive(self._labels), kind)}

    def estimator(self) -> dict[str, Any]:
        """Return an estimator that the task can begin with."""
        if self._regresses:
            return {"path": "sklearn.ensemble.HistGradientBoostingRegressor"}
        return {"path": "sklearn.linear_model.LogisticRegression", "parameters": {"max_iter": 1000}}

    def _label_type(self) -> str:
        said = {label.strip().lower() for label in self._labels}
        if said <= _TRUTHS:
            return "boolean"
        texts = pa.array(sorted(said))
        numbers = of.parsed(texts, ".")
        whole = of.is_whole(numbers).all() and not of.is_beyond_whole(numbers).any()
        return "integer" if whole and not self._has_leading_zeros(texts) else "text"

    def written(self) -> dict[str, Any]:
        """Return what of a source this has found out."""
        decimal = {} if self._decimal == "." else {"decimal": self._decimal}
        return {**decimal, **({"missing": self._markers} if self._markers else {})}

    def role(self, column: str) -> Role:
        """Return what a column is; of several that name each row, only the first is its id."""
        if column == self._target:
            common = ", ".join(f"{quoted(label)} {rows:,}" for label, rows in self._labels.most_common(5))
            why = f"{len(self._labels):,} different numbers: a number to be predicted" if self._regresses else common
            left_out = f"; {self.unlabelled:,} rows without it are left out" if self.unlabelled else ""
            return Role(column, "target", f"{why}{left_out}")
        if column in self._ids:
            return Role(column, "id", "named as an id")
        texts = self._table.trimmed(column)
        missing = int(self._table.is_missing(column).sum())
        distinct = texts.unique()
        if missing == len(texts):
            return Role(column, "ignore", "it is empty")
        if _is_unspeakable(column):
            return Role(column, "ignore", "its name can't be a field of a request")
        if len(column) > MOST_NAME_CHARS:
            return Role(column, "ignore", f"its name has more than {MOST_NAME_CHARS} characters")
        if missing:
            known = pa.array(~self._table.is_missing(column))
            texts = texts.filter(known)
            distinct = texts.unique()
        role = self._role_of_values(column, texts, distinct)
        if odd := self._odd_ones(column):
            role = dataclasses.replace(role, why=f"{role.why}; {odd}")
        if missing and role.role == "id":
            return Role(column, "ignore", f"{role.why}, but {missing:,} are missing")
        if missing and role.role in _FEATURES:
            return dataclasses.replace(role, why=f"{role.why}; {missing:,} are missing", nullable=True)
        return role

    def _role_of_values(self, column: str, texts: pa.StringArray, distinct: pa.StringArray) -> Role:
        if len(distinct) == 1:
            return Role(column, "ignore", f"every row has {quoted(distinct[0].as_py())}")
        values = of.parsed(texts, self._decimal)
        if np.isnan(values).any() or self._has_leading_zeros(texts):
            return self._role_of_texts(column, distinct)
        return self._role_of_numbers(column, values)

    def _role_of_numbers(self, column: str, values: np.ndarray[Any, np.dtype[np.float64]]) -> Role:
        distinct = np.unique(values)
        each_its_own = len(distinct) == len(values)
        if not of.is_whole(values).all():
            if of.is_beyond_float32(values).any():
                return Role(column, "ignore", "it holds more than float32 does, which the model takes")
            return Role(column, "number", f"numbers from {distinct[0]:g} to {distinct[-1]:g}")
        if each_its_own and (of.counts_rows(values) or _ID_NAME.search(column)):
            return self._id(column, "a whole number of its own in each row")
        if len(distinct) > MOST_CATEGORIES and _GROUP_NAME.search(column):
            return Role(column, "ignore", f"called an id, one of {len(distinct):,}: as --id it keeps its rows together")
        if of.is_beyond_whole(values).any() or of.is_merged(values).any():
            return Role(
                column, "ignore", "float32, which the model takes, merges some of its whole numbers: an id or a time?"
            )
        return Role(column, "integer", f"whole numbers from {distinct[0]:g} to {distinct[-1]:g}")

    def _role_of_texts(self, column: str, distinct: pa.StringArray) -> Role:
        rows = len(self._table)
        named_so = _ID_NAME.search(column)
        if len(distinct) == rows and not _is_time(distinct[0].as_py()) and (named_so or not self._odd_ones(column)):
            return self._id(column, "a text of its own in each row")
        if {text.lower() for text in distinct.to_pylist()} == _TRUTHS:
            return Role(column, "boolean", "true and false")
        if all(_is_date(text) for text in distinct.to_pylist()):
            return Role(column, "date", "dates")
        if all(_is_time(text) for text in distinct.to_pylist()):
            return Role(column, "datetime", "dates and times")
        if len(distinct) > MOST_CATEGORIES or len(distinct) > rows / 2:
            return Role(column, "ignore", f"{len(distinct):,} different texts in {rows:,} rows")
        named = ", ".join(quoted(text) for text in sorted(distinct.to_pylist())[:4])
        return Role(column, "category", f"{len(distinct)} different texts: {named}")

    def _odd_ones(self, column: str) -> str:
        """Say which few values keep a column from being one of numbers; nothing where they are many, or none."""
        texts = self._table.trimmed(column)
        values = of.parsed(texts, self._decimal)
        is_odd = np.isnan(values) & ~self._table.is_missing(column)
        are_few = is_odd.sum() <= _FEW * (~np.isnan(values)).sum()
        if not is_odd.any() or not (are_few or self._markers_of(texts)):
            return ""
        first = int(np.flatnonzero(is_odd)[0])
        text, place = self._table.columns[column][first].as_py(), f"{self._table.unit} {self._table.places[first]}"
        return f"numbers all but {is_odd.sum():,}, such as {quoted(text)} in {place}"

    def _id(self, column: str, why: str) -> Role:
        if self._has_id:
            return Role(column, "ignore", f"{why}, and another column is the id")
        self._has_id = True
        return Role(column, "id", why)

    def _markers_of(self, texts: pa.StringArray) -> set[str]:
        strange = set(texts.filter(pa.array(np.isnan(of.parsed(texts, self._decimal)))).to_pylist()) - {""}
        has_numbers = len(strange) < len(texts.unique()) - 1
        return strange if strange <= _MARKERS and has_numbers else set()

    @staticmethod
    def _has_leading_zeros(texts: pa.StringArray) -> bool:
        return bool(pc.any(pc.match_substring_regex(texts, "^0[0-9]")).as_py())


def _is_unspeakable(column: str) -> bool:
    try:
        refuse_unspeakable(column)
    except NotServable:
        return True
    return False


def _is_date(text: str) -> bool:
    return _is_time(text) and "T" not in text.upper() and ":" not in text


def _is_time(text: str) -> bool:
    try:
        return bool(instant(text))
    except ValueError:
        return False
