"""Free text that hides nothing, and any text made visible."""

import pytest

from pipelines.domain.texts import MAX_CHARS, checked_text, one_line, printable


@pytest.mark.parametrize("text", ["", "why not", "façade: naïve, 100 % “quoted” 日本語 👍", "x" * MAX_CHARS])
def test_what_people_see_is_taken_as_it_is(text: str) -> None:
    assert checked_text(text) == text
    assert printable(text) == text


@pytest.mark.parametrize(
    ("character", "shown"),
    [
        ("\x1b", r"\x1b"),
        ("\x00", r"\x00"),
        ("\t", r"\t"),
        ("\r", r"\r"),
        ("\x7f", r"\x7f"),
        ("\x9b", r"\x9b"),
        ("\u2028", r"\u2028"),
        ("\u202e", r"\u202e"),
        ("\u2066", r"\u2066"),
        ("\u200b", r"\u200b"),
        ("\u200d", r"\u200d"),
        ("\u2060", r"\u2060"),
        ("\xad", r"\xad"),
        ("\ufeff", r"\ufeff"),
        ("\u180e", r"\u180e"),
        ("\u3164", r"\u3164"),
        ("\u2800", r"\u2800"),
        ("\ufe0f", r"\ufe0f"),
        ("\U000e0041", r"\U000e0041"),
        ("\U000e0100", r"\U000e0100"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_nobody_sees_is_refused_by_its_number_and_shown_as_an_escape(character: str, shown: str) -> None:
    with pytest.raises(ValueError, match=f"U\\+{ord(character):04X}"):
        checked_text(f"good{character}bye")
    assert printable(f"good{character}bye") == f"good{shown}bye"


def test_a_line_end_is_refused_in_what_a_person_writes_and_kept_in_what_is_shown() -> None:
    with pytest.raises(ValueError, match=r"U\+000A"):
        checked_text("two\nlines")
    assert printable("two\nlines") == "two\nlines"


def test_what_a_stranger_says_is_one_line_of_bounded_length() -> None:
    assert one_line("FAIL: got x\nPASS accuracy=0.99\x1b[2K") == r"FAIL: got x\nPASS accuracy=0.99\x1b[2K"
    assert one_line("façade", 6) == "façade"
    long = one_line("x" * 10_000, 100)
    assert (len(long), long[-24:]) == (100, "... (of 10,000 characters)"[-24:])
    assert len(one_line("\x1b" * 99, 100)) == 100


def test_a_text_without_bounds_is_refused_by_its_length() -> None:
    with pytest.raises(ValueError, match="1,001 characters, of which 1,000 are taken"):
        checked_text("x" * (MAX_CHARS + 1))
