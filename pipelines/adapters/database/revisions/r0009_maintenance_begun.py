"""When maintenance began to count, by a clock that nobody sets."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the column, empty for all maintenance of before: it ends by the clock on the wall."""
    op.add_column("shape_changes", sa.Column("begun", sa.JSON(none_as_null=True)))
