"""When an evaluation began, from which its deadline counts."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column, empty for every evaluation of before: one that is under way begins to count now."""
    op.add_column("evaluations", sa.Column("begun", sa.JSON(none_as_null=True)))
