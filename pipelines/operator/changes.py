"""Says which change of an installation was begun by a command that is gone, so that nobody waits for it."""

from collections.abc import Mapping
from typing import Any

from pipelines.settings.settings import Settings


def abandoned_changes(status: Mapping[str, Any], settings: Settings) -> list[str]:
    """Return a line for each change in the API's status that no command of this machine is at any more."""
    begun = [work for work in status["unfinished"] if "verb" in work]
    if not begun:
        return []
    from pipelines.wiring.targets import wiring_of

    # Another machine than the operator's can't tell.
    if wiring_of(settings.target).is_being_changed(settings) is not False:
        return []
    return [
        f"{work['id']} has no owner: slipway {work['verb']} ended without giving the environments back;"
        ' next: "make up" again, which does'
        for work in begun
    ]
