"""What the executor looks after beside all work, a model at a time, again and again."""

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from pipelines.errors import LostLease, UsageError
from pipelines.releases.leases import confirm_leader
from pipelines.releases.services import Services

LOOK_S = 2.0
# What keeps every model from being looked after is told of all at once.
_ANY = "any model"


class Eye(Protocol):
    """Looks after one model."""

    def look(self) -> None:
        """Do what is due; raise LostLease, and UsageError before a policy is in force."""


def look_after(
    services: Services, stop: threading.Event, make: Callable[[Services, str], Eye], log: logging.Logger, doing: str
) -> None:
    """Look after every model until `stop`; what fails is logged once, as what can't be done, and repeated."""
    eyes: dict[str, Eye] = {}
    told: dict[str, str] = {}

    def tell(model: str, error: Exception) -> None:
        if str(error) != told.get(model):
            log.warning("can't %s of %s: %s", doing, model, error)
        told[model] = str(error)

    while not stop.wait(LOOK_S):
        try:
            confirm_leader(services)
            models = services.models()
            told.pop(_ANY, None)
        except LostLease:
            # The loop that shows that this executor lives finds out too, and ends the process.
            return
        except Exception as error:
            tell(_ANY, error)
            continue
        for model in models:
            try:
                if model not in eyes:
                    eyes[model] = make(services, model)
                eyes[model].look()
                told.pop(model, None)
            except LostLease:
                return
            except UsageError:
                # No policy is in force yet.
                continue
            except Exception as error:
                tell(model, error)
