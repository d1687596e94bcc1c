"""The SQL tables of Slipway's own state as its code sees them, described by nothing but the records.

A database gets them by the files in revisions/; a test holds the two against each other.
"""

import dataclasses
import re
import types
import typing
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar

import sqlalchemy as sa

from pipelines.domain import audit, records
from pipelines.domain.events import Event, EventKind
from pipelines.domain.records import Record
from pipelines.errors import Undecided, UsageError

R = TypeVar("R", bound=Record)

# The number of the newest file in revisions/; a database that says another has not got it yet.
SCHEMA_VERSION = 13

AUDIT_LOG = "audit_log"
EVENTS = "events"
_SEQUENCES = "sequences"

_NO_TEXT = re.compile("[\0\ud800-\udfff]")

# Kind -> (table, prefix of its ids).
NAMES: dict[type[Any], tuple[str, str]] = {
    records.FurtherModel: ("models", "m"),
    records.PinnedVersion: ("pinned_versions", "v"),
    records.Evaluation: ("evaluations", "e"),
    records.Promotion: ("promotions", "p"),
    records.Approval: ("approvals", "a"),
    records.Rollback: ("rollbacks", "b"),
    records.ReleaseRecord: ("releases", "r"),
    records.PolicyChange: ("policies", "y"),
    records.AddedSet: ("added_sets", "s"),
    records.Maintenance: ("shape_changes", "c"),
    records.Lease: ("leases", "l"),
    records.LeaderLease: ("executors", "x"),
    records.Observation: ("observations", "o"),
    records.Subscriber: ("subscribers", "u"),
    records.RequestLog: ("request_logs", "q"),
    records.LiveWindow: ("live_windows", "w"),
    records.LiveDrift: ("live_drifts", "d"),
    records.Feedback: ("feedback", "f"),
}

# What records are looked up by, besides their id.
_INDEXES: dict[type[Any], tuple[tuple[str, ...], ...]] = {
    records.PinnedVersion: (("model",),),
    records.Evaluation: (("state",), ("model", "version")),
    records.Promotion: (("state",), ("model", "version"), ("evaluation_id",)),
    records.Approval: (("promotion_id",),),
    records.Rollback: (("state",),),
    records.ReleaseRecord: (("model", "environment", "state"), ("change_id",)),
    records.PolicyChange: (("state",),),
    records.AddedSet: (("state",), ("model", "digest")),
    records.Maintenance: (("state",),),
    records.LiveWindow: (("model", "environment", "day"),),
    records.Feedback: (("state",), ("model", "digest")),
}


def _plain(hint: Any) -> Any:
    """Return the type of a hint without its `| None`."""
    if isinstance(hint, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint


_HINTS: dict[type[Any], dict[str, Any]] = {kind: typing.get_type_hints(kind) for kind in NAMES}
# Field name -> type of each kind, without `| None`.
_FIELDS: dict[type[Any], dict[str, Any]] = {
    kind: {name: _plain(hint) for name, hint in hints.items()} for kind, hints in _HINTS.items()
}


class RecordTables:
    """Every table: those of the records by their kind, the audit log, the events, and the last number of each kind."""

    def __init__(self) -> None:
        self.metadata = sa.MetaData()
        self._of_kind = {kind: _table(self.metadata, kind, name) for kind, (name, _) in NAMES.items()}
        self.audit_log = _audit_table(self.metadata)
        self.events = _events_table(self.metadata)
        self.sequences = sa.Table(
            _SEQUENCES,
            self.metadata,
            sa.Column("name", sa.Text, primary_key=True),
            sa.Column("last", sa.Integer, nullable=False),
        )

    def __getitem__(self, kind: type[Any]) -> sa.Table:
        """Return the table of a record kind."""
        return self._of_kind[kind]


@cache
def record_tables() -> RecordTables:
    """Return the tables, which are the same for every database of this process."""
    return RecordTables()


def sql_value(value: Any) -> Any:
    """Return a field's value as its column stores it; raise UsageError for text that not every database can keep."""
    if isinstance(value, str) and _NO_TEXT.search(value):
        raise UsageError(f"{value[:40]!r} can't be kept as text", next="leave out NUL characters and lone surrogates")
    return str(value) if isinstance(value, StrEnum) else value


def row_of(record: Record | audit.Entry) -> dict[str, Any]:
    """Return the columns of a record, or of an audit entry."""
    return {field.name: sql_value(getattr(record, field.name)) for field in dataclasses.fields(record)}


def record_of(kind: type[R], row: sa.RowMapping) -> R:
    """Return the record that `row_of` was given; raise Undecided for a row that it can't have written."""
    values = {}
    for name, hint in _FIELDS[kind].items():
        try:
            values[name] = _field_of(hint, row[name], optional=_HINTS[kind][name] is not hint)
        except (TypeError, ValueError):
            raise damaged(f"row {row['id']} of {NAMES[kind][0]}", f"its {name} is {str(row[name])[:80]}") from None
    return kind(**values)


def damaged(what: str, why: str) -> Undecided:
    """Return what is raised for something stored that no Slipway can have written."""
    return Undecided(f"{what} is damaged: {why}", next='see "slipway doctor", and compare it with a backup')


def _field_of(hint: Any, value: Any, *, optional: bool) -> Any:
    """Return a field by its column's value; raise TypeError or ValueError for one that it can't have."""
    if value is None and optional:
        return None
    shape = typing.get_origin(hint) or hint
    if issubclass(shape, StrEnum):
        return shape(value)
    if value is None or (shape in (dict, list) and not isinstance(value, shape)):
        raise TypeError(f"not a {shape.__name__}")
    return value


def event_of(row: sa.RowMapping) -> Event:
    """Return the event of a row."""
    return Event(**{**row, "kind": EventKind(row["kind"])})


def _table(metadata: sa.MetaData, kind: type[Any], name: str) -> sa.Table:
    columns = [sa.Column(field, _sql_type(hint), unique=field == "id") for field, hint in _FIELDS[kind].items()]
    # An identity, not a serial: who may insert then needs no right on a sequence besides.
    row = sa.Column("row", sa.Integer, sa.Identity(), primary_key=True)
    indexes = [sa.Index(f"ix_{'_'.join([name, *looked_up])}", *looked_up) for looked_up in _INDEXES.get(kind, ())]
    return sa.Table(name, metadata, row, *columns, *indexes)


def _audit_table(metadata: sa.MetaData) -> sa.Table:
    fields = [field.name for field in dataclasses.fields(audit.Entry)]
    columns = [
        sa.Column(name, sa.JSON if name == "detail" else sa.Text, index=name == "subject")
        for name in fields
        if name != "seq"
    ]
    seq = sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False)
    return sa.Table(AUDIT_LOG, metadata, seq, *columns)


def _events_table(metadata: sa.MetaData) -> sa.Table:
    return sa.Table(
        EVENTS,
        metadata,
        sa.Column("seq", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("at", sa.Text),
        sa.Column("kind", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("subject", sa.Text, index=True),
        sa.Column("detail", sa.JSON),
        # A number is never given twice, even after the last rows were deleted.
        sqlite_autoincrement=True,
    )


def _sql_type(kind: Any) -> Any:
    if typing.get_origin(kind) in (dict, list):
        return sa.JSON(none_as_null=True)
    return {int: sa.Integer, float: sa.Float, bool: sa.Boolean}.get(kind, sa.Text)
