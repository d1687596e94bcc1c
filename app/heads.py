"""Waits for the whole head of a request before it is parsed: bounded, and without an offer of another protocol.

A server may ignore such an offer (RFC 9110, 7.8). The parser can't: after one it takes no body.
"""

import re

MAX_HEAD_BYTES = 16 << 10
_END = re.compile(rb"\r?\n\r?\n")
_OFFER = re.compile(rb"\nupgrade[ \t]*:", re.IGNORECASE)
_IGNORED = b"\nx-ignored-offer:"


class HeadTooLargeError(Exception):
    """The head of a request has more than 16 KiB."""


class Heads:
    """The head that one connection is sending."""

    def __init__(self) -> None:
        self._begun = b""

    @property
    def begun(self) -> bool:
        """Whether a part of a head has come."""
        return bool(self._begun)

    def whole(self, data: bytes) -> bytes:
        """Return a head and what came after it once it is whole, nothing before; raise HeadTooLargeError."""
        # Line ends in front of a request are allowed, and would be taken for its end.
        data = (self._begun + data).lstrip(b"\r\n")
        end = _END.search(data, 0, MAX_HEAD_BYTES)
        if end is None:
            if len(data) >= MAX_HEAD_BYTES:
                raise HeadTooLargeError
            self._begun = data
            return b""
        self._begun = b""
        return _OFFER.sub(_IGNORED, data[: end.start()]) + data[end.start() :]
