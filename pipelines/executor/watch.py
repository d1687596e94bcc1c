"""The executor's eyes: what serves is looked at again and again, beside all work, and lifecycle tags are mended."""

import logging
import threading

from pipelines.domain.release import Environment
from pipelines.releases.reconcile import observe_environment
from pipelines.releases.rollout import write_lifecycles
from pipelines.releases.services import Services

OBSERVE_S = 2.0

log = logging.getLogger("slipway.watch")


def watch(services: Services, model: str, stop: threading.Event) -> None:
    """Look at both environments and mend lifecycle tags until `stop`; what fails is logged and repeated."""
    while not stop.wait(OBSERVE_S):
        try:
            for environment in Environment:
                observe_environment(services, model, environment)
            write_lifecycles(services, model)
        except Exception as error:
            log.warning("can't look: %s", error)
