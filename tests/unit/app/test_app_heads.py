"""The head of a request: whole, bounded, and without an offer of another protocol."""

import pytest

from app.heads import MAX_HEAD_BYTES, Heads, HeadTooLargeError

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2"
END = b"\r\n\r\n"


def test_a_head_in_one_piece_is_left_as_it_is_with_what_follows() -> None:
    heads = Heads()
    for sent in (HEAD + END, HEAD + END + b"{}", HEAD + END + b"{}" + HEAD + END, b"GET / HTTP/1.0\n\n"):
        assert heads.whole(sent) == sent


@pytest.mark.parametrize("at", range(1, len(HEAD + END)))
def test_a_head_in_pieces_is_given_on_when_it_is_whole(at: int) -> None:
    heads, sent = Heads(), HEAD + END
    assert heads.whole(sent[:at]) == b""
    assert heads.whole(sent[at:] + b"{}") == sent + b"{}"
    assert heads.whole(sent) == sent


@pytest.mark.parametrize("name", [b"Upgrade", b"upgrade", b"UPGRADE "])
def test_an_offer_is_taken_out_and_nothing_else(name: bytes) -> None:
    body = b"\r\nUpgrade: of a body"
    sent = HEAD + b"\r\n" + name + b": h2c\r\nConnection: Upgrade\r\nX-Upgrade: y" + END + body
    given = Heads().whole(sent)
    assert given == HEAD + b"\r\nx-ignored-offer: h2c\r\nConnection: Upgrade\r\nX-Upgrade: y" + END + body


def test_line_ends_before_a_request_are_no_request() -> None:
    heads = Heads()
    assert heads.whole(b"\r\n\r\n") == b""
    assert heads.whole(b"\r\n" + HEAD + END) == HEAD + END


def test_a_head_without_bounds_is_refused() -> None:
    heads = Heads()
    with pytest.raises(HeadTooLargeError):
        heads.whole(b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES + END)
    for _ in range(MAX_HEAD_BYTES // 1024 - 1):
        assert heads.whole(b"x" * 1024) == b""
    with pytest.raises(HeadTooLargeError):
        heads.whole(b"x" * 1024)
