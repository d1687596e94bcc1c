"""How far what production is asked is from what its version was trained on."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Make the table, empty: nothing was measured before."""
    json = sa.JSON(none_as_null=True)
    op.create_table(
        "live_drifts",
        sa.Column("row", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, unique=True),
        *(sa.Column(name, sa.Text) for name in ("model", "environment")),
        *(sa.Column(name, sa.Integer) for name in ("asked", "answered")),
        sa.Column("drifted", sa.Boolean),
        *(sa.Column(name, json) for name in ("look", "history")),
    )
