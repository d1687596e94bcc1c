"""Whether a port of this machine is free for a part that is about to be started."""

import socket
from collections.abc import Collection

from pipelines.adapters.local.supervisor.sockets import HOST, port_holder
from pipelines.errors import PortTaken

# Below the ports that a system gives to whoever connects, above those that Slipway has by itself.
_FIRST, _LAST = 8100, 8999


def is_free(port: int) -> bool:
    """Whether nobody listens on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(taken: Collection[int]) -> int:
    """Return a port that nobody listens on and that is not `taken`; raise PortTaken where there is none."""
    for port in range(_FIRST, _LAST + 1):
        if port not in taken and is_free(port):
            return port
    raise PortTaken(f"every port from {_FIRST} to {_LAST} is taken", next="end a process that has one")


def refuse_taken_port(port: int, name: str, setting: str) -> None:
    """Raise PortTaken, with who has it and which setting moves it, while another process listens on a part's port."""
    if not is_free(port):
        holder = port_holder(port)
        raise PortTaken(
            f"port {port} of {name} is taken{f' by process {holder}' if holder else ''}",
            next=f"end that process, or set SLIPWAY_PORT_{setting}",
        )
