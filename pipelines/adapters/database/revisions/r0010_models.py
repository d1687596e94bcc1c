"""The models of an installation beside the default one."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the table, empty: an installation of before has one model."""
    op.create_table(
        "models",
        sa.Column("row", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, unique=True),
        *(sa.Column(name, sa.Text) for name in ("added_by", "added_at", "state", "archived_at")),
    )
