"""The executor's eyes: what serves is looked at again and again, beside all work, and lifecycle tags are mended."""

import functools
import logging
import threading
import time

from pipelines.domain.release import Environment
from pipelines.errors import LostLease
from pipelines.releases.leases import confirm_leader
from pipelines.releases.reconcile import Drifts, observe_environment
from pipelines.releases.rollout import latest_releases, write_lifecycles
from pipelines.releases.services import Services

OBSERVE_S = 2.0
# Tags change with releases; one that somebody else changed is mended so late at most.
MEND_S = 60.0

log = logging.getLogger("slipway.watch")


def watch(services: Services, model: str, stop: threading.Event) -> None:
    """Look at both environments and mend lifecycle tags until `stop`; what fails is logged and repeated."""
    drifts = Drifts()
    mended_at, mended, told = 0.0, None, ""
    while not stop.wait(OBSERVE_S):
        try:
            # A frozen executor that wakes has nothing to say any more.
            confirm_leader(services)
            aliases = functools.cache(lambda: services.registry.aliases(model))
            for environment in Environment:
                observe_environment(services, model, environment, aliases, drifts)
            history = latest_releases(services, model)
            if history != mended or time.monotonic() - mended_at > MEND_S:
                write_lifecycles(services, model)
                mended_at, mended = time.monotonic(), history
            told = ""
        except LostLease as lost:
            log.critical("%s; this executor looks no more", lost.message)
            return
        except Exception as error:
            if str(error) != told:
                log.warning("can't look: %s", error)
            told = str(error)
