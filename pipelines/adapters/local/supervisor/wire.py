"""The JSON forms in which a supervisor and its callers speak of releases and slots.

A supervisor outlives the code that started it: its record says which version of these forms it speaks.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipelines.domain.release import Environment, Phase, Release, Replica, Slot, SlotState

# Bumped when a supervisor and callers of another version would misunderstand each other.
WIRE_VERSION = 3
# The first version that passes its sockets on to a successor.
HANDS_OVER = 2


class Command(StrEnum):
    """What a supervisor can be asked; all but `OBSERVE`, `HAND_OVER` and `LEAVE` carry an epoch.

    `HAND_OVER` is answered with the sockets; `LEAVE`, on the same connection, says that they have come.
    """

    START = "start"
    STOP = "stop"
    OBSERVE = "observe"
    FENCE = "fence"
    HAND_OVER = "hand_over"
    LEAVE = "leave"


@dataclass(frozen=True)
class Deployment:
    """A release and the directory that holds its bundle."""

    release: Release
    bundle_dir: Path

    def as_dict(self) -> dict[str, Any]:
        """Return the wire form."""
        return {"release": asdict(self.release), "bundle_dir": str(self.bundle_dir)}

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> "Deployment":
        """Rebuild what `as_dict` wrote; raise KeyError, TypeError or ValueError for anything else."""
        return cls(release_from_dict(body["release"]), Path(body["bundle_dir"]))


def release_from_dict(body: dict[str, Any]) -> Release:
    """Rebuild a release from the form `dataclasses.asdict` gives it."""
    return Release(**{**body, "environment": Environment(body["environment"])})


def state_as_dict(state: SlotState) -> dict[str, Any]:
    """Return the wire form of a slot's state."""
    return asdict(state)


def state_from_dict(body: dict[str, Any]) -> SlotState:
    """Rebuild what `state_as_dict` wrote."""
    return SlotState(
        slot=Slot(body["slot"]),
        phase=Phase(body["phase"]),
        release=release_from_dict(body["release"]) if body["release"] else None,
        wanted_id=body["wanted_id"],
        url=body["url"],
        replicas=tuple(Replica(**replica) for replica in body["replicas"]),
        failure=body["failure"],
        last_log=tuple(body["last_log"]),
        # A supervisor of an earlier Slipway does not know.
        own_failure=body.get("own_failure", False),
    )
