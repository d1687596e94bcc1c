"""Makes Slipway's tables on containers: the one process that has their owner's login does nothing else, and ends."""

import logging
import time
from collections.abc import Callable, Mapping

from pipelines.adapters.database.records import prepare_records
from pipelines.errors import DatabaseUnavailable
from pipelines.settings.runtime import owner_url

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
    url, deadline, told = owner_url(environ), time.monotonic() + patience_s, False
    while True:
        try:
            return prepare(url, APPLICATION_ROLE)
        except DatabaseUnavailable as error:
            if time.monotonic() > deadline:
                raise
            if not told:
                log.warning("%s: waiting up to %g s for the database", error.message, patience_s)
            told = True
        time.sleep(poll_s)
