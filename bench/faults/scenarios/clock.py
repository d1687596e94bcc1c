"""The clock of the executor's machine steps ten minutes back and forward, in the middle of a release."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.faults.grounds import Executor, Grounds
from bench.faults.scenario import NotInjected, Scenario, expect

STEP = "10m"
# libfaketime calls the way in which Python sleeps, to a moment of the monotonic clock, an invalid argument.
_SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds) and None\n"
_PLACES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib64/faketime/libfaketimeMT.so.1")


def steps(grounds: Grounds) -> str:
    """Step in a release: it goes on, no living executor is taken for dead, and no dead one for alive."""
    library = _library()
    clock = grounds.slipway.home / "clock"
    (grounds.slipway.libraries / "sitecustomize.py").write_text(_SLEEP)
    preload = {
        "PYTHONPATH": str(grounds.slipway.libraries),
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    told = []
    for sign in "+-":
        version = grounds.slipway.staged()
        grounds.end_executor()
        clock.write_text("+0\n")
        with grounds.executor(preload) as executor:
            grounds.await_that(lambda: executor.is_ready, "an executor with a clock of its own")
            _release_over_a_step(grounds, executor, version, partial(clock.write_text, f"{sign}{STEP}\n"))
        # Killed, it must not count as alive for the ten minutes that its clock was ahead.
        told.append(f"{sign}{STEP}: released, alone, replaced after {_up_s(grounds):.1f} s")
    return "; ".join(told)


def _release_over_a_step(grounds: Grounds, executor: Executor, version: str, step: Callable[[], object]) -> None:
    asking = grounds.slipway.ask_and_approve(version)
    time.sleep(0.5)
    step()
    grounds.promoted(asking)
    expect(grounds.serving() == version, f"production serves {grounds.serving()}")
    # Beside it, a second one with the true clock has to see that this one lives.
    with grounds.executor() as second:
        grounds.await_that(lambda: second.has_ended, "a second executor to be refused")
        expect("runs already" in second.said(), f"a second executor said {second.said()[-300:]!r}")
    expect(not executor.has_ended, f"the executor ended: {executor.said()[-300:]!r}")


def _up_s(grounds: Grounds) -> float:
    begun = time.monotonic()
    grounds.mend()
    return time.monotonic() - begun


def _library() -> Path:
    for pattern in _PLACES:
        for found in Path("/").glob(pattern[1:]):
            return found
    raise NotInjected("libfaketime is not installed")


SCENARIOS = (Scenario("clock steps by 10 minutes", steps),)
