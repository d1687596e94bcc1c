"""What changed between the data of two states of a model, and which of it its clients would notice."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.domain.bundle import Feature, Schema, schema_breaks
from pipelines.domain.description import label_text
from pipelines.packaging.snapshot import Snapshot, SnapshotDescription
from pipelines.packaging.training_rows import Hashes, TrainingRows, hashes_of_texts, hashes_of_values
from pipelines.training.feature_rules import Categorical
from pipelines.training.model_file import ModelFile
from pipelines.training.places import identities, identity_of
from pipelines.training.prepare import describe
from pipelines.training.reading.columns import typed_frame
from pipelines.training.reading.source import read_source, usable_rows

# So many categories or labels of a column are told one by one.
_NAMED_TEXTS = 10


@dataclass(frozen=True)
class Side:
    """A state of a model's data: all its rows by their hashes, and what its columns are.

    `frame` holds the rows where they are at hand. `unassigned` are columns of the source without a role; `undeclared`
    are categories that model.yaml does not declare, by their feature. `rows` is None where not all of them are known.
    """

    name: str
    description: SnapshotDescription
    rows: TrainingRows | None
    frame: pd.DataFrame | None = None
    unassigned: tuple[str, ...] = ()
    breaking: str | None = None

    @property
    def schema(self) -> Schema:
        """What clients send and are answered."""
        return Schema(self.description.features, self.description.classes, self.description.positive)


@dataclass(frozen=True)
class Rows:
    """How many rows are in the new state alone, in the old one alone, and in both with other values.

    They are known by the columns of `by`, or by the values themselves where that is empty: then none counts as changed.
    `changed` is None where the old values can't be compared.
    """

    by: tuple[str, ...]
    added: int
    removed: int
    changed: int | None


@dataclass(frozen=True)
class Column:
    """What became of a column, said in one line for each thing."""

    name: str
    changes: tuple[str, ...]


@dataclass(frozen=True)
class Differences:
    """The differences of two states; `rows` is None where the rows of one of them are not known.

    `breaks` says why requests of the old state's clients would be refused, or answered otherwise. `declared` is the
    reason that the new state gives for that in model.yaml.
    """

    old: str
    new: str
    rows: Rows | None
    columns: tuple[Column, ...]
    breaks: tuple[str, ...]
    declared: str | None

    def as_json(self) -> dict[str, Any]:
        """Return the form that is printed on request."""
        return asdict(self)


def read_tree(root: Path, name: str) -> Side:
    """Return the state of the source that a working tree's model.yaml names, as it is now.

    A column that came or went without a word of model.yaml is a difference like any other. Raises UsageError for what
    can't be read.
    """
    model = ModelFile.load(root / "model.yaml")
    source = read_source(model.source, root)
    known = {*model.columns, *model.ignore}
    unassigned = tuple(each for each in source.columns if each not in known)
    held = {each: rule for each, rule in model.features.items() if each in source.columns}
    # Categories are what the data holds, until it is known whether they are declared.
    free = {each: _free(rule) for each, rule in held.items()}
    reading = model.model_copy(update={"features": free, "ignore": (*model.ignore, *unassigned)})
    table = usable_rows(reading, source)
    frame = typed_frame(reading, table)
    description = describe(reading, frame)
    declared = {
        each: rule.categories for each, rule in held.items() if isinstance(rule, Categorical) and rule.categories
    }
    features = tuple(_with_declared(each, declared.get(each.name, ())) for each in description.features)
    described = replace(description, features=features, identity=identity_of(model))
    rows = TrainingRows.of(Snapshot(frame, described, "", identities(reading, table)))
    reason = model.schema_change.reason if model.schema_change else None
    return Side(name, described, rows, frame, unassigned, reason)


def _free(rule: Any) -> Any:
    return rule.model_copy(update={"categories": ()}) if isinstance(rule, Categorical) else rule


def _with_declared(feature: Feature, declared: tuple[str, ...]) -> Feature:
    return replace(feature, categories=tuple(dict.fromkeys((*declared, *feature.categories)))) if declared else feature


def registered_side(
    name: str,
    description: SnapshotDescription,
    evaluation: TrainingRows,
    trained_on: TrainingRows | None,
    *,
    breaking: str | None = None,
) -> Side:
    """Return the state of a registered version, of what its run has logged: the rows of both parts."""
    rows = None if trained_on is None else _joined(trained_on, evaluation)
    return Side(name, description, rows, breaking=breaking)


def _joined(one: TrainingRows, other: TrainingRows) -> TrainingRows | None:
    """Return the rows of both parts of a state; None where they are not hashed alike."""
    if (one.identity, one.values) != (other.identity, other.values):
        return None
    known = None
    if one.identities is not None and other.identities is not None:
        known = np.concatenate([one.identities, other.identities])
    missing = {name: count + other.missing[name] for name, count in one.missing.items()}
    contents = np.concatenate([one.contents, other.contents])
    return replace(one, missing=missing, identities=known, contents=contents)


def compare(old: Side, new: Side) -> Differences:
    """Compare two states of a model's data."""
    before, after = ({each.name: each for each in side.description.features} for side in (old, new))
    columns = [
        Column(name, tuple(_column(name, old, new, before.get(name), after.get(name)))) for name in {**after, **before}
    ]
    columns += [Column(name, ("added, without a role in model.yaml",)) for name in new.unassigned]
    answers = (*_labels(old.description, new.description), *_other_answers(old, new))
    columns.append(Column(new.description.target, answers))
    return Differences(
        old=old.name,
        new=new.name,
        rows=_rows(old, new) if old.rows and new.rows else None,
        columns=tuple(each for each in columns if each.changes),
        breaks=schema_breaks(old.schema, new.schema),
        declared=new.breaking,
    )


def _rows(old: Side, new: Side) -> Rows:
    assert old.rows is not None
    assert new.rows is not None
    one, other = old.rows, new.rows
    before, after = _comparable(old, new)
    if one.identity == other.identity and one.identities is not None and other.identities is not None:
        added = int((~np.isin(other.identities, one.identities)).sum())
        removed = int((~np.isin(one.identities, other.identities)).sum())
        changed = None
        if before is not None and after is not None:
            changed = _changed(one.identities, before, other.identities, after)
        return Rows(one.identity, added, removed, changed)
    if before is None or after is None:
        before, after = one.contents, other.contents
    return Rows((), int((~np.isin(after, before)).sum()), int((~np.isin(before, after)).sum()), None)


def _comparable(old: Side, new: Side) -> tuple[Hashes | None, Hashes | None]:
    """Return the hashes of the values of the columns that both have; None for a side whose values are not at hand."""
    common = {each.name for each in old.description.features} & {each.name for each in new.description.features}
    return _hashed(old, common), _hashed(new, common)


def _hashed(side: Side, names: set[str]) -> Hashes | None:
    assert side.rows is not None
    if set(side.rows.values) == names:
        return side.rows.contents
    if side.frame is None:
        return None
    return hashes_of_values(side.frame, [each for each in side.description.features if each.name in names])


def _changed(ids: Hashes, values: Hashes, other_ids: Hashes, other_values: Hashes) -> int:
    """Count the identities that both have with other values; several rows of one are taken together."""
    one, other = _summed(ids, values), _summed(other_ids, other_values)
    both, at, other_at = np.intersect1d(one[0], other[0], assume_unique=True, return_indices=True)
    return int((one[1][at] != other[1][other_at]).sum()) if len(both) else 0


def _once(ids: Hashes, values: Hashes) -> tuple[Hashes, Hashes]:
    """Return each pair of an identity and a value once."""
    pairs = np.unique(np.stack([ids, values]), axis=1)
    return pairs[0], pairs[1]


def _summed(ids: Hashes, values: Hashes) -> tuple[Hashes, Hashes]:
    known, places = np.unique(ids, return_inverse=True)
    totals: NDArray[np.uint64] = np.zeros(len(known), dtype=np.uint64)
    np.add.at(totals, places, values)
    return known, totals


def _column(name: str, old: Side, new: Side, before: Feature | None, after: Feature | None) -> Iterable[str]:
    if before is None or after is None:
        yield "dropped" if after is None else f"added, {_kind(after)}"
        return
    if _kind(before) != _kind(after):
        yield f"was {_kind(before)} and is {_kind(after)}"
    yield from _texts("category", before.categories, after.categories)
    if before.observed and after.observed and before.observed != after.observed:
        yield f"ranges from {_range(after.observed)}, before {_range(before.observed)}"
    declared = [(each.minimum, each.maximum) for each in (before, after)]
    if declared[0] != declared[1]:
        yield f"is bounded by {declared[1]}, before by {declared[0]}"
    share, former = _missing(new, name), _missing(old, name)
    if share is not None and former is not None and f"{share:.2%}" != f"{former:.2%}":
        yield f"is missing in {share:.2%} of the rows, before in {former:.2%}"


def _labels(old: SnapshotDescription, new: SnapshotDescription) -> Iterable[str]:
    if (old.target, old.task) != (new.target, new.task):
        yield f"is the target of a {new.task} model, before {old.target} of a {old.task} one"
    yield from _texts("label", map(label_text, old.classes), map(label_text, new.classes))


def _other_answers(old: Side, new: Side) -> Iterable[str]:
    """Say in how many rows of both the target is another one; of a version's rows nobody has logged it."""
    before, after, keys = _answers(old), _answers(new), _keys_of_both(old, new)
    if keys is None or before is None or after is None or old.description.target != new.description.target:
        return
    # Rows without an id are known by their values, which several may share: what counts is which answers they have.
    if other := _changed(*_once(keys[0], before), *_once(keys[1], after)):
        yield f"is another one in {other:,} rows that both have"


def _answers(side: Side) -> Hashes | None:
    if side.frame is None:
        return None
    target = side.frame[side.description.target]
    return hashes_of_texts(((str(each),) for each in target), len(target))


def _keys_of_both(old: Side, new: Side) -> tuple[Hashes, Hashes] | None:
    """Return what rows of both are known by: their identities, or their values where both have the same columns."""
    if old.rows is None or new.rows is None:
        return None
    one, other = old.rows, new.rows
    if one.identity == other.identity and one.identities is not None and other.identities is not None:
        return one.identities, other.identities
    return (one.contents, other.contents) if one.values == other.values else None


def _texts(what: str, before: Iterable[str], after: Iterable[str]) -> Iterable[str]:
    known, held = dict.fromkeys(before), dict.fromkeys(after)
    yield from _listed(what, "new", [each for each in held if each not in known])
    yield from _listed(what, "gone", [each for each in known if each not in held])


def _listed(what: str, how: str, texts: list[str]) -> Iterable[str]:
    """Say which texts are new, or gone: each by itself, or how many where nobody would read them all."""
    if len(texts) <= _NAMED_TEXTS:
        return [f"{what} {each!r} is {how}" for each in texts]
    return [f"{len(texts):,} values are {how}, such as {', '.join(map(repr, texts[:_NAMED_TEXTS]))}"]


def _kind(feature: Feature) -> str:
    return f"{feature.type}{', may be missing' if feature.nullable else ''}"


def _range(observed: tuple[float, float]) -> str:
    return f"{observed[0]:g} to {observed[1]:g}"


def _missing(side: Side, name: str) -> float | None:
    return side.rows.missing[name] / len(side.rows) if side.rows and len(side.rows) else None
