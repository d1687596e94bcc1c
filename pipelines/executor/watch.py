"""The executor's eyes: what serves is looked at again and again, beside all work, and lifecycle tags are mended."""

import functools
import logging
import threading
import time

from pipelines.domain.records import ReleaseRecord
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


def watch(services: Services, stop: threading.Event) -> None:
    """Look at every model and mend its lifecycle tags until `stop`; what fails is logged and repeated."""
    drifts = Drifts()
    eyes: dict[str, _Eye] = {}
    told = ""
    while not stop.wait(OBSERVE_S):
        try:
            # A frozen executor that wakes has nothing to say any more.
            confirm_leader(services)
            for model in services.models():
                eyes.setdefault(model, _Eye(services, model, drifts)).look()
            told = ""
        except LostLease as lost:
            log.critical("%s; this executor looks no more", lost.message)
            return
        except Exception as error:
            if str(error) != told:
                log.warning("can't look: %s", error)
            told = str(error)


class _Eye:
    """Looks at one model; what fails is logged once, and keeps no other model from being looked at."""

    def __init__(self, services: Services, model: str, drifts: Drifts) -> None:
        self._services, self._model, self._drifts = services, model, drifts
        self._mended_at, self._told = 0.0, ""
        self._mended: list[ReleaseRecord] | None = None

    def look(self) -> None:
        """Look at both environments, and mend the lifecycle tags when it is time; raise LostLease."""
        services, model = self._services, self._model
        try:
            aliases = functools.cache(lambda: services.registry.aliases(model))
            for environment in Environment:
                observe_environment(services, model, environment, aliases, self._drifts)
            history = latest_releases(services, model)
            if history != self._mended or time.monotonic() - self._mended_at > MEND_S:
                write_lifecycles(services, model)
                self._mended_at, self._mended = time.monotonic(), history
            self._told = ""
        except LostLease:
            raise
        except Exception as error:
            if str(error) != self._told:
                log.warning("can't look at %s: %s", model, error)
            self._told = str(error)
