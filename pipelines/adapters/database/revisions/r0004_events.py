"""Events in place of the lines of progress, their subscribers, and the model that a policy is for.

There were two schemas 3, with one half of this each: what is there already stays as it is.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0002"

_BATCH = 1000


def upgrade() -> None:
    """Make the tables and the column, and carry the lines of progress over."""
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer, sa.Identity(), primary_key=True),
        *(sa.Column(name, sa.Text) for name in ("at", "kind", "model", "subject")),
        sa.Column("detail", sa.JSON),
        # A number is never given twice, even after the last rows were deleted.
        sqlite_autoincrement=True,
        if_not_exists=True,
    )
    op.create_index("ix_events_subject", "events", ["subject"], if_not_exists=True)
    row = sa.Column("row", sa.Integer, sa.Identity(), primary_key=True)
    name, seq = sa.Column("id", sa.Text, unique=True), sa.Column("seq", sa.Integer)
    op.create_table("subscribers", row, name, seq, if_not_exists=True)
    there = sa.inspect(op.get_bind())
    if "model" not in {column["name"] for column in there.get_columns("policies")}:
        op.add_column("policies", sa.Column("model", sa.Text))
    if there.has_table("progress"):
        _carry_progress(op.get_bind())
        op.drop_table("progress")


def _carry_progress(connection: sa.Connection) -> None:
    names: list[sa.ColumnClause[Any]] = [sa.column(name) for name in ("at", "kind", "subject")]
    events = sa.table("events", *names, sa.column("detail", sa.JSON))
    lines = connection.exec_driver_sql("SELECT subject, step, message, at FROM progress ORDER BY row").all()
    for begin in range(0, len(lines), _BATCH):
        told = [
            {
                "at": line.at,
                "kind": "progress_made",
                "subject": line.subject,
                "detail": {"step": line.step, "message": line.message},
            }
            for line in lines[begin : begin + _BATCH]
        ]
        connection.execute(events.insert(), told)
