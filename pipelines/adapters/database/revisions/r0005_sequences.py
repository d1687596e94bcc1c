"""Ids by a sequence for each kind of record, in place of a count of rows, and indexes on what is looked up."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_PREFIXES = {
    "evaluations": "e",
    "promotions": "p",
    "approvals": "a",
    "rollbacks": "b",
    "releases": "r",
    "policies": "y",
    "shape_changes": "c",
}
_INDEXES = (
    ("pinned_versions", "model"),
    ("evaluations", "state"),
    ("evaluations", "model", "version"),
    ("promotions", "state"),
    ("promotions", "model", "version"),
    ("promotions", "evaluation_id"),
    ("approvals", "promotion_id"),
    ("rollbacks", "state"),
    ("releases", "model", "environment", "state"),
    ("releases", "change_id"),
    ("policies", "state"),
    ("shape_changes", "state"),
    ("audit_log", "subject"),
)


def upgrade() -> None:
    """Let each sequence go on after the greatest id that was given."""
    op.create_table(
        "sequences", sa.Column("name", sa.Text, primary_key=True), sa.Column("last", sa.Integer, nullable=False)
    )
    for table, prefix in _PREFIXES.items():
        numbers = f"CAST(substr(id, {len(prefix) + 2}) AS INTEGER)"
        op.execute(
            f"INSERT INTO sequences SELECT '{prefix}', coalesce(max({numbers}), 0) "
            f"FROM {table} WHERE id LIKE '{prefix}-%'"
        )
    for table, *columns in _INDEXES:
        op.create_index(f"ix_{'_'.join([table, *columns])}", table, columns)
