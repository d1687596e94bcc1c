"""Asks a replica for the requests that it has sampled, by the address that only the executor has."""

import http.client
import socket
from http import HTTPStatus
from pathlib import Path

from pipelines.adapters.exchange import deadline

SAMPLE_PATH = "/requests/sampled"
_LIMIT_S = 10.0
# A replica ends its answer behind 2 MiB, with the row that it is at.
REPLY_LIMIT_BYTES = 8 << 20


class _UnixConnection(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("replica", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket of the path."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def pull_from_socket(path: Path, question: bytes) -> bytes | None:
    """Ask on a private socket; None when no whole answer of a fit size comes in time."""
    return _pull(_UnixConnection(path, _LIMIT_S), question)


def pull_from_address(address: str, question: bytes) -> bytes | None:
    """Ask `host:port`, as `pull_from_socket` does."""
    return _pull(http.client.HTTPConnection(address, timeout=_LIMIT_S), question)


def _pull(connection: http.client.HTTPConnection, question: bytes) -> bytes | None:
    try:
        with deadline(_LIMIT_S) as until:
            connection.connect()
            until.watch(connection.sock)
            headers = {"Connection": "close", "Content-Type": "application/json"}
            connection.request("POST", SAMPLE_PATH, question, headers)
            reply = connection.getresponse()
            content = reply.read(REPLY_LIMIT_BYTES + 1)
        # A replica of an earlier Slipway, or without a release, has nothing to tell.
        fits = reply.status == HTTPStatus.OK and len(content) <= REPLY_LIMIT_BYTES
        return content if fits else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
