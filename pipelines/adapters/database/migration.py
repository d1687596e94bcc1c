"""Brings the tables of a database to those of this Slipway, a revision at a time, in the caller's one transaction.

Cut off, it has changed nothing, and whoever opens the database next begins again. Tables are made in no other way.
"""

from pathlib import Path

import sqlalchemy as sa

from pipelines.adapters.database.tables import SCHEMA_VERSION
from pipelines.errors import UsageError

# As long as the largest database may take, and whoever waits for it.
MIGRATION_S = 600
SCHEMA = "slipway schema "

_REVISIONS = Path(__file__).parent / "revisions"
# The last schema that knew no revisions; a smaller number says less about what is there.
_LAST_ADOPTED = 4


def migrate(connection: sa.Connection, version: int, *, until: int = SCHEMA_VERSION) -> None:
    """Apply the revisions that a database lacks, under the write lock that `connection` holds.

    `version` is the number that the database itself gives for its schema, below 1 for none. Raises UsageError for the
    tables of a newer Slipway. A smaller `until` makes those of an older one, to be upgraded.
    """
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    context = MigrationContext.configure(connection)
    current = context.get_current_revision()
    refuse_newer(max(version, int(current or 0)))
    scripts = ScriptDirectory(str(_REVISIONS), version_locations=[str(_REVISIONS)])
    if current is None and version == _LAST_ADOPTED:
        current = f"{version:04}"
        context.stamp(scripts, current)
    lacking = list(scripts.iterate_revisions(f"{until:04}", current or "base"))
    with Operations.context(context):
        for script in reversed(lacking):
            script.module.upgrade()
            context.stamp(scripts, script.revision)


def refuse_newer(version: int) -> None:
    """Raise UsageError for a schema that this Slipway does not know yet."""
    if version > SCHEMA_VERSION:
        raise UsageError(
            f"the database has {SCHEMA}{version}, this Slipway needs {SCHEMA}{SCHEMA_VERSION}",
            next="use the newer Slipway that made it, or restore a backup of before",
        )
