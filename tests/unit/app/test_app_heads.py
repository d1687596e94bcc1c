"""The head of a request: whole, bounded, and without an offer of another protocol."""

import pytest

from app.heads import MAX_HEAD_BYTES, HeadTooLargeError, split_head

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2"
END = b"\r\n\r\n"


@pytest.mark.parametrize("behind", [b"", b"{}", b"{}" + HEAD + END])
def test_a_whole_head_is_left_as_it_is_and_so_is_what_follows(behind: bytes) -> None:
    assert split_head(HEAD + END + behind) == (HEAD + END, behind)
    assert split_head(b"GET / HTTP/1.0\n\n" + behind) == (b"GET / HTTP/1.0\n\n", behind)


@pytest.mark.parametrize("at", range(1, len(HEAD + END)))
def test_a_part_of_a_head_is_none(at: int) -> None:
    assert split_head((HEAD + END)[:at]) == (b"", (HEAD + END)[:at])


@pytest.mark.parametrize("name", [b"Upgrade", b"upgrade", b"UPGRADE"])
def test_an_offer_is_taken_out_and_nothing_else(name: bytes) -> None:
    body = b"\r\nUpgrade: of a body"
    sent = HEAD + b"\r\n" + name + b": h2c\r\nConnection: Upgrade\r\nX-Upgrade: y" + END
    taken_out = HEAD + b"\r\nx-ignored-offer: h2c\r\nConnection: Upgrade\r\nX-Upgrade: y" + END
    assert split_head(sent + body) == (taken_out, body)


def test_a_name_that_is_none_is_left_to_the_parser() -> None:
    sent = HEAD + b"\r\nUpgrade : h2c" + END
    assert split_head(sent) == (sent, b"")


def test_line_ends_before_a_request_are_no_request() -> None:
    assert split_head(b"\r\n\r\n") == (b"", b"")
    assert split_head(b"\r\n" + HEAD + END) == (HEAD + END, b"")


def test_a_head_without_bounds_is_refused() -> None:
    assert split_head(b"x" * (MAX_HEAD_BYTES - 1)) == (b"", b"x" * (MAX_HEAD_BYTES - 1))
    for sent in (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES + END, b"x" * MAX_HEAD_BYTES):
        with pytest.raises(HeadTooLargeError):
            split_head(sent)
