"""The evaluation sets that people add, beside those that versions bring."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Make the table, empty: there was no way to add one before."""
    texts = ("model", "name", "digest", "run_id", "requested_by", "created_at", "state")
    op.create_table(
        "added_sets",
        sa.Column("row", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, unique=True),
        *(sa.Column(column, sa.Text) for column in texts),
        *(sa.Column(column, sa.Integer) for column in ("number", "rows")),
        sa.Column("error", sa.JSON(none_as_null=True)),
        sa.Column("ended_at", sa.Text),
    )
    op.create_index("ix_added_sets_state", "added_sets", ["state"])
    op.create_index("ix_added_sets_model_digest", "added_sets", ["model", "digest"])
