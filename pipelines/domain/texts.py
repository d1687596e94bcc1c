"""Text of strangers: what a person's free text may hold, and how any text is shown on a terminal or in a log.

Characters that nobody sees are refused at the door and escaped at every exit: they can hide or forge what is read.
"""

import unicodedata

MAX_CHARS = 1000
# Of what a gate or a job has to say.
MAX_LINE_CHARS = 4000
# Controls, formats (joiners, turned direction, tags), halves of surrogate pairs, and what ends a line or a paragraph
# elsewhere than in a terminal.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
# What Unicode says to show nothing for besides, fillers and variation selectors; and the blank of Braille.
_EMPTY = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2065, 0x2065),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0xE0000, 0xE0FFF),
)


def checked_text(text: str) -> str:
    """Return a person's text if it is of at most 1,000 characters that people see; raise ValueError otherwise."""
    if len(text) > MAX_CHARS:
        raise ValueError(f"{len(text):,} characters, of which {MAX_CHARS:,} are taken")
    unseen = next((each for each in text if _is_unseen(each)), None)
    if unseen is not None:
        raise ValueError(f"it holds the character U+{ord(unseen):04X}, which nobody sees")
    return text


def printable(text: str) -> str:
    """Return text of any origin with each unseen character but the line end escaped, as Python writes it."""
    return "".join(_escaped(each) if each != "\n" and _is_unseen(each) else each for each in text)


def one_line(text: str, most: int = MAX_LINE_CHARS) -> str:
    """Return text of any origin as one line: line ends escaped as well, and of at most so many characters."""
    # Escapes are longer than what they stand for.
    escaped = "".join(_escaped(each) if _is_unseen(each) else each for each in text[:most])
    if len(text) <= most and len(escaped) <= most:
        return escaped
    end = f"... (of {len(text):,} characters)"
    return escaped[: most - len(end)] + end


def _is_unseen(character: str) -> bool:
    if character.isascii():
        return not character.isprintable()
    number = ord(character)
    return unicodedata.category(character) in _UNSEEN or any(first <= number <= last for first, last in _EMPTY)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
