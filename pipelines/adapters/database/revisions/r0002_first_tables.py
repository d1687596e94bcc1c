"""The tables that Slipway had before it kept revisions. What an even earlier one has of them stays as it is."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = None


def upgrade() -> None:
    """Make each table that is not there yet, and the columns of the executor that came after its table."""
    _make("pinned_versions", *_texts("model", "version", "bundle_digest", "evalset_digest", "pinned_at"))
    _make(
        "evaluations",
        *_texts("model", "version", "requested_by", "created_at", "state"),
        _json("override_gates"),
        *_texts("override_reason", "bundle_digest"),
        _json("report"),
        *_texts("report_digest", "verdict"),
        _json("error"),
        *_texts("ended_at"),
    )
    _make(
        "promotions",
        *_texts("model", "version", "environment", "requested_by", "created_at", "evaluation_id", "state"),
        _json("override_gates"),
        *_texts("override_reason"),
        sa.Column("measured_before", sa.Boolean),
        *_texts("expires_at", "release_id", "archived"),
        _json("error"),
        *_texts("ended_at"),
    )
    _make(
        "approvals",
        *_texts("promotion_id", "person"),
        sa.Column("approved", sa.Boolean),
        *_texts("reason"),
        _json("evidence"),
        *_texts("at"),
    )
    _make(
        "rollbacks",
        *_texts("model", "environment", "requested_by", "created_at", "replaces", "state", "release_id"),
        *_texts("version", "replaced"),
        _json("error"),
        *_texts("ended_at"),
    )
    _make(
        "releases",
        *_texts("model", "environment", "version", "bundle_digest", "kind", "change_id", "actor", "created_at"),
        *_texts("state", "restores"),
        _json("evidence"),
        *_texts("serving_at", "ended_at"),
    )
    _make(
        "policies",
        *_texts("digest"),
        _json("body"),
        *_texts("applied_by", "created_at", "state"),
        _json("error"),
        *_texts("ended_at"),
    )
    _make(
        "shape_changes",
        *_texts("model", "verb", "requested_by", "created_at", "state", "held_at", "end_asked_at"),
        _json("error"),
        *_texts("ended_at"),
    )
    _make("leases", *_texts("holder"), sa.Column("epoch", sa.Integer), *_texts("executor", "acquired_at"))
    _make(
        "executors",
        *_texts("executor"),
        sa.Column("pid", sa.Integer),
        sa.Column("process_started", sa.Float),
        *_texts("heartbeat_at", "host", "left_at"),
    )
    _make("observations", *_texts("recorded", "alias"), _json("replicas"), *_texts("drift", "at"))
    op.create_table(
        "audit_log",
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        *_texts("at", "actor", "action", "phase", "subject"),
        sa.Column("detail", sa.JSON),
        *_texts("prev_hash", "hash"),
        if_not_exists=True,
    )
    there = {column["name"] for column in sa.inspect(op.get_bind()).get_columns("executors")}
    for late in _texts("host", "left_at"):
        if late.name not in there:
            op.add_column("executors", late)


def _make(name: str, *columns: sa.Column[Any]) -> None:
    row = sa.Column("row", sa.Integer, sa.Identity(), primary_key=True)
    op.create_table(name, row, sa.Column("id", sa.Text, unique=True), *columns, if_not_exists=True)


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.Text) for name in names]


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.JSON(none_as_null=True))
