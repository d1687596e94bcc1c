"""Heartbeats by the clock of the machine's start, and what a rollback found half-done."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the columns, empty in the rows of before."""
    op.add_column("executors", sa.Column("boot_id", sa.Text))
    op.add_column("executors", sa.Column("beat_s", sa.Float))
    op.add_column("rollbacks", sa.Column("during", sa.Text))
