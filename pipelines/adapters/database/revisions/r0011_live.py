"""What is known of requests that are served, and the labels that people send for them."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the tables, empty: nothing was sampled before."""
    _make("request_logs", texts=("model", "environment"), documents=("output", "replicas"), more=("at",))
    _make(
        "live_windows",
        texts=("model", "environment", "version", "day"),
        numbers=("seen", "kept", "dropped", "lost"),
        documents=("scores",),
        more=("at",),
        last_documents=("quality",),
    )
    op.create_index("ix_live_windows_model_environment_day", "live_windows", ["model", "environment", "day"])
    _make(
        "feedback",
        texts=("model", "person", "digest"),
        numbers=("count",),
        documents=("labels",),
        more=("created_at", "state", "ended_at"),
    )
    op.create_index("ix_feedback_state", "feedback", ["state"])
    op.create_index("ix_feedback_model_digest", "feedback", ["model", "digest"])


def _make(
    name: str,
    *,
    texts: tuple[str, ...],
    documents: tuple[str, ...],
    more: tuple[str, ...],
    numbers: tuple[str, ...] = (),
    last_documents: tuple[str, ...] = (),
) -> None:
    json = sa.JSON(none_as_null=True)
    op.create_table(
        name,
        sa.Column("row", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("id", sa.Text, unique=True),
        *(sa.Column(column, sa.Text) for column in texts),
        *(sa.Column(column, sa.Integer) for column in numbers),
        *(sa.Column(column, json) for column in documents),
        *(sa.Column(column, sa.Text) for column in more),
        *(sa.Column(column, json) for column in last_documents),
    )
