"""Makes Slipway's tables on containers: the one process that has their owner's login does nothing else, and ends."""

import logging
from collections.abc import Callable, Mapping

from pipelines.adapters.database.records import prepare_records
from pipelines.errors import DatabaseUnavailable
from pipelines.settings.runtime import owner_url
from pipelines.wiring.patience import wait_out

# The role that API and executor work as; the owner of its tables is another.
APPLICATION_ROLE = "slipway"
# So long it waits for a database that is started at the same time, or that learns of a new password.
DATABASE_S = 120.0
POLL_S = 0.5

log = logging.getLogger(__name__)


def make_tables(
    environ: Mapping[str, str],
    *,
    prepare: Callable[[str, str], None] = prepare_records,
    patience_s: float = DATABASE_S,
    poll_s: float = POLL_S,
) -> None:
    """Make or upgrade the tables as their owner, for the application's role to use; repeating it changes nothing.

    Raises UsageError for the tables of a newer Slipway, and DatabaseUnavailable when no database answers in time.
    """
    url = owner_url(environ)
    wait_out(
        lambda: prepare(url, APPLICATION_ROLE),
        DatabaseUnavailable,
        "the database",
        log=log,
        patience_s=patience_s,
        poll_s=poll_s,
    )
