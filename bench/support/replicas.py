"""The replicas of an endpoint on this machine: asked by their own addresses, killed, and awaited again."""

import os
import signal
import time

from pipelines.domain.release import REPLICAS, Endpoint, Replica, Slot
from pipelines.errors import SlipwayError, TargetUnavailable
from pipelines.ports import Target

# Far longer than it takes on a machine that does nothing else.
PATIENCE_S = 240.0
_POLL_S = 0.1


def kill_replica(worker: int) -> None:
    """SIGKILL a replica whole: the process that answers, and the one that would start another."""
    os.killpg(os.getpgid(worker), signal.SIGKILL)


class Replicas:
    """Those of an endpoint's live slot."""

    def __init__(self, target: Target, endpoint: Endpoint) -> None:
        self._target = target
        self._endpoint = endpoint

    def observe(self) -> tuple[Replica, ...]:
        """Ask each now; none while their supervisor does not answer."""
        try:
            return self._target.observe(self._endpoint, Slot.LIVE).replicas
        except TargetUnavailable:
            return ()

    def ready(self) -> list[int]:
        """Return the processes of those that are ready."""
        return [replica.pid for replica in self.observe() if replica.ready and replica.pid]

    def await_ready(self, without: int | None = None) -> float:
        """Wait until all are ready, of which none is the process `without`; return the seconds it took."""
        begun = time.monotonic()
        while True:
            ready = self.ready()
            taken_s = time.monotonic() - begun
            if len(ready) == REPLICAS[self._endpoint.environment] and without not in ready:
                return taken_s
            if taken_s > PATIENCE_S:
                raise SlipwayError(f"after {taken_s:.0f} s only {ready} are ready; {without or 'nobody'} was killed")
            time.sleep(_POLL_S)

    def kill_in_turn(self, count: int) -> float:
        """SIGKILL one after the other, each once all are ready; return the longest that one took to be replaced (s)."""
        longest_s = 0.0
        for number in range(count):
            self.await_ready()
            ready = self.ready()
            victim = ready[number % len(ready)]
            kill_replica(victim)
            longest_s = max(longest_s, self.await_ready(without=victim))
        return longest_s
