"""Requests that two readers may read in two ways, or that are no HTTP at all; every server has to refuse them."""

import contextlib
import socket

_GET = b"GET /health HTTP/1.1\r\n"
_POST = b"POST /health HTTP/1.1\r\nHost: x\r\n"
_BEHIND = b"GET /behind HTTP/1.1\r\nHost: x\r\n\r\n"

# How it is called -> what is sent.
REFUSED = {
    "no host": _GET + b"\r\n",
    "two hosts": _GET + b"Host: a\r\nHost: b\r\n\r\n",
    "the same host twice": _GET + b"Host: a\r\nHost: a\r\n\r\n",
    "CL.TE": _POST + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
    "TE.CL": _POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n" + _BEHIND + b"\r\n0\r\n\r\n",
    "two lengths": _POST + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths in one": _POST + b"Content-Length: 0, 5\r\n\r\nhello",
    "a signed length": _POST + b"Content-Length: +5\r\n\r\nhello",
    "a negative length": _POST + b"Content-Length: -5\r\n\r\nhello",
    "a length in hexadecimal": _POST + b"Content-Length: 0x5\r\n\r\nhello",
    "a length with underscores": _POST + b"Content-Length: 1_0\r\n\r\nhellohello",
    "no length": _POST + b"Content-Length: \r\n\r\n",
    "a name before a space": _POST + b"Content-Length : 5\r\n\r\nhello",
    "an offer before a space": _GET + b"Host: x\r\nConnection: Upgrade\r\nUpgrade : x\r\n\r\n",
    "an unknown coding": _POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not the last": _POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "a chunk's size that is no number": _POST + b"Transfer-Encoding: chunked\r\n\r\nz\r\nhello\r\n0\r\n\r\n",
    "a chunk's size with a sign": _POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nhello\r\n0\r\n\r\n",
    "a chunk's size beyond bounds": _POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\nhello\r\n",
    "a chunk that is longer than it says": _POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n0\r\n\r\n",
    "a header without a name": _GET + b"Host: x\r\n: nothing\r\n\r\n",
    "a header without a colon": _GET + b"Host: x\r\nnothing\r\n\r\n",
    "a name with a control character": _GET + b"Host: x\r\nX\x00Y: 1\r\n\r\n",
    "a value with a zero": _GET + b"Host: x\r\nX: a\x00b\r\n\r\n",
    "a value with a bare return": _GET + b"Host: x\r\nX: a\rb\r\n\r\n",
    "no version": b"GET /health\r\n\r\n",
    "a version that nobody knows": b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n",
    "a version that is none": b"GET /health HTTQ/1.1\r\nHost: x\r\n\r\n",
    "a method with a bracket": b"G{T /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path with a zero": b"GET /hea\x00lth HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path beyond ASCII": "GET /hälth HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "noise": bytes(range(256)) + b"\r\n\r\n",
}


def exchange(port: int, sent: bytes, *, timeout_s: float = 20) -> bytes:
    """Send bytes to a port of this machine, and return all that comes until the connection ends."""
    received = b""
    # Who answers before all was sent may cut the rest, and the answer with it.
    with socket.create_connection(("127.0.0.1", port), timeout_s) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(sent)
        while piece := connection.recv(65_536):
            received += piece
    return received
