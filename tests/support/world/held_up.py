"""A dispatcher that is held up as its turn ends.

`python -m tests.support.world.held_up SECONDS` prints what it sent and planned.

A process of its own, because importing Locust changes the sockets of the one that does.
"""

import json
import sys
import time
from types import SimpleNamespace
from typing import Any

from locust.env import Environment
from locust.runners import STATE_RUNNING

from loadtests.generator.turn import Turn
from loadtests.generator.users import Load, OpenModelUser
from loadtests.plan.personas import requests_of
from loadtests.plan.plan import Arrivals
from loadtests.plan.shapes import STEADY
from loadtests.samples import Persona

DURATION_S, RATE_PER_S = 0.3, 200.0


class HeldUp:
    """An alarm that wakes its sleeper `late_s` too late, once, at the end of the turn."""

    def __init__(self, late_s: float) -> None:
        self._late_s = late_s
        self._begun_s = time.monotonic()

    def wait_until(self, due_s: float) -> None:
        time.sleep(max(0.0, due_s - time.monotonic()))
        if time.monotonic() - self._begun_s > DURATION_S:
            time.sleep(self._late_s)
            self._late_s = 0.0


class Windows:
    """Takes note of the arrivals that were planned."""

    planned = 0

    def begin(self) -> None:
        pass

    def end(self, turn: int, *, planned: int, **_: float) -> None:
        self.planned = planned


def held_up(late_s: float) -> dict[str, int]:
    """Dispatch one turn."""
    windows, sent = Windows(), list[Any]()
    OpenModelUser.recording = windows  # type: ignore[assignment]
    environment = Environment(user_classes=[OpenModelUser])
    environment.runner = SimpleNamespace(state=STATE_RUNNING)  # type: ignore[assignment]
    user = OpenModelUser(environment)
    user.on_start()
    user._alarm = HeldUp(late_s)  # type: ignore[assignment]
    user._send = sent.append  # type: ignore[method-assign]
    user._send_turn(0, OpenModelUser.load.turns[0])
    return {"sent": len(sent), "planned": windows.planned}


def main(lates_s: list[str]) -> None:
    OpenModelUser.load = Load(
        requests={Persona.SINGLE: requests_of(Persona.SINGLE, [{"tenure": 1}], "/predict")},
        mix=((Persona.SINGLE, 1.0),),
        rate_per_s=RATE_PER_S,
        shape=STEADY,
        arrivals=Arrivals.FIXED,
        seed=1,
        expected_version="",
        turns=(Turn(0, "http://127.0.0.1:9", 0.0, DURATION_S),),
        timeout_s=1.0,
        max_in_flight=100,
    )
    sys.stdout.write(json.dumps([held_up(float(late_s)) for late_s in lates_s]))


if __name__ == "__main__":
    main(sys.argv[1:])
