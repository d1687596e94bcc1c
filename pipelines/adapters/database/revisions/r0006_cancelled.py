"""Who has asked for the end of an evaluation."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column, empty for every evaluation of before."""
    op.add_column("evaluations", sa.Column("cancel_asked_by", sa.Text))
