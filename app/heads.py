"""Takes the head of a request off what has come: whole, bounded, and without an offer of another protocol.

A server may ignore such an offer (RFC 9110, 7.8). The parser can't: after one it takes no body.
"""

import re

MAX_HEAD_BYTES = 16 << 10
_END = re.compile(rb"\r?\n\r?\n")
# Not before a blank and a colon: such a name is none, and the parser refuses it.
_OFFER = re.compile(rb"\nupgrade:", re.IGNORECASE)
_IGNORED = b"\nx-ignored-offer:"


class HeadTooLargeError(Exception):
    """The head of a request has more than 16 KiB."""


def split_head(data: bytes) -> tuple[bytes, bytes]:
    """Return a head and what came behind it, or no head and all that came; raise HeadTooLargeError."""
    # Line ends in front of a request are allowed, and would be taken for its end.
    data = data.lstrip(b"\r\n")
    end = _END.search(data, 0, MAX_HEAD_BYTES)
    if end is None:
        if len(data) >= MAX_HEAD_BYTES:
            raise HeadTooLargeError
        return b"", data
    return _OFFER.sub(_IGNORED, data[: end.end()]), data[end.end() :]
