"""Runs releases as processes of this machine by asking the environments' supervisors; changes nothing itself."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.adapters.local.supervisor.home import record_path, recorded_replicas, refuse_newer, wire_of
from pipelines.adapters.local.supervisor.wire import WIRE_VERSION, Command, Deployment, state_from_dict
from pipelines.adapters.sample_pull import pull_from_socket
from pipelines.domain.release import Endpoint, Release, RunsFrom, Slot, SlotState
from pipelines.errors import SlipwayError, TargetUnavailable, UsageError

_TIMEOUT_S = 10.0


class LocalTarget:
    """The target of one machine, as `pipelines.ports.Target`.

    `home` is Slipway's home, where the supervisors leave their records; `bundles` gives the verified directory
    of a bundle digest or raises DeployFailed. Every method raises TargetUnavailable without a supervisor.
    """

    def __init__(self, home: Path, bundles: Callable[[str], Path]) -> None:
        self._home = home
        self._bundles = bundles

    def prepare(self, endpoint: Endpoint, bundle_digest: str) -> None:
        """Make sure that the bundle's directory is there and its bytes hold."""
        self._bundles(bundle_digest)

    def discard(self, bundle_digest: str) -> None:
        """Do nothing: what is served is the bundle's own directory."""

    def start(self, release: Release, slot: Slot, *, epoch: int) -> None:
        """Begin to serve `release` in `slot` and return at once."""
        deployment = Deployment(release, self._bundles(release.bundle_digest))
        body = {"slot": slot, "epoch": epoch, "deployment": deployment.as_dict()}
        self._ask(release.endpoint, Command.START, body)

    def observe(self, endpoint: Endpoint, slot: Slot) -> SlotState:
        """Have the supervisor ask every replica of a slot now."""
        return state_from_dict(self._ask(endpoint, Command.OBSERVE, {"slot": slot}))

    def images(self, release: Release) -> RunsFrom | None:
        """Return None: what is served is the bundle's own directory."""
        return None

    def pull_samples(self, endpoint: Endpoint, slot: Slot, question: bytes) -> list[bytes]:
        """Ask the replicas that the supervisor's record names on their private sockets, one after the other."""
        self._record(endpoint)
        try:
            named = recorded_replicas(record_path(self._home, endpoint))
            paths = [Path(each.socket) for each in named if each.slot is slot]
        except (UsageError, ValueError) as error:
            raise _silent(endpoint, error) from error
        return [answer for path in paths if (answer := pull_from_socket(path, question)) is not None]

    def highest_epoch(self, endpoint: Endpoint) -> int:
        """Read the supervisor's record, which it writes before it obeys an epoch."""
        return int(self._record(endpoint)["epoch"])

    def set_traffic_weights(self, endpoint: Endpoint, weights: dict[Slot, int], *, epoch: int) -> None:
        """Accept the only shares that one port can give: all to live."""
        if {slot: weight for slot, weight in weights.items() if weight} != {Slot.LIVE: 1}:
            shares = ", ".join(f"{slot} {weight}" for slot, weight in weights.items())
            raise UsageError(
                f"the local target cannot share a port as {shares or 'nothing'}",
                next="give live 1 and the others 0",
            )
        self._ask(endpoint, Command.FENCE, {"epoch": epoch})

    def restore(self, endpoint: Endpoint, release: Release | None, *, epoch: int) -> None:
        """Bring `live` back to `release`, or to none, superseding whatever is under way there."""
        if release:
            self.start(release, Slot.LIVE, epoch=epoch)
        else:
            self.stop(endpoint, Slot.LIVE, epoch=epoch)

    def stop(self, endpoint: Endpoint, slot: Slot, *, epoch: int) -> None:
        """Begin to drain a slot; it is EMPTY when nobody of it is left."""
        self._ask(endpoint, Command.STOP, {"slot": slot, "epoch": epoch})

    def _ask(self, endpoint: Endpoint, command: Command, body: dict[str, Any]) -> dict[str, Any]:
        request = json.dumps({"command": command, **body}).encode() + b"\n"
        socket_path = str(self._record(endpoint)["socket"])
        try:
            reply = converse(socket_path, request)
        except (OSError, ValueError) as error:
            raise _silent(endpoint, error) from error
        if "error" in reply:
            raise SlipwayError.from_dict(reply["error"])
        return reply["ok"] or {}

    def _record(self, endpoint: Endpoint) -> dict[str, Any]:
        try:
            path = record_path(self._home, endpoint)
            record: dict[str, Any] = json.loads(path.read_bytes())
            refuse_newer(path, wire_of(record))
            if wire_of(record) < WIRE_VERSION:
                raise ValueError(f"it is an earlier Slipway's and speaks version {wire_of(record)}")
            return {"epoch": record["epoch"], "socket": record["socket"]}
        except (OSError, ValueError, KeyError) as error:
            raise _silent(endpoint, error) from error


def _silent(endpoint: Endpoint, error: Exception) -> TargetUnavailable:
    return TargetUnavailable(f"the supervisor of {endpoint} does not answer ({error})", next='run "make up"')


def converse(path: str, request: bytes, timeout_s: float = _TIMEOUT_S) -> dict[str, Any]:
    """Ask a supervisor and return its reply, whatever it says; raise OSError or ValueError when it gives none."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        connection.connect(path)
        connection.sendall(request)
        with connection.makefile("rb") as stream:
            reply = json.loads(stream.readline())
    if not isinstance(reply, dict):
        raise ValueError(f"not a reply: {reply!r}")
    return reply
