"""Whether a port of this machine is free for a part that is about to be started."""

import socket

from pipelines.adapters.local.supervisor.sockets import HOST, port_holder
from pipelines.errors import PortTaken


def refuse_taken_port(port: int, name: str, setting: str) -> None:
    """Raise PortTaken, with who has it and which setting moves it, while another process listens on a part's port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            holder = port_holder(port)
            raise PortTaken(
                f"port {port} of {name} is taken{f' by process {holder}' if holder else ''}",
                next=f"end that process, or set SLIPWAY_PORT_{setting}",
            ) from error
