"""Looks for secrets of a home that others could read: loose modes of what keeps them, and tokens in a log."""

import stat
from pathlib import Path

from pipelines.settings.settings import Settings
from pipelines.settings.tokens import read_tokens

# A token is looked for in so much of a log's end.
_TAIL_BYTES = 8_000_000
_OTHERS = 0o077


def find_readable_secrets(settings: Settings) -> list[str]:
    """Return what others could read, one line each; an empty list when there is nothing."""
    home = settings.home
    found = [] if _private(home) else [f"{home} is open to others (mode {stat.S_IMODE(home.stat().st_mode):o})"]
    keepers = [settings.tokens_file, *home.glob("*.db"), *home.glob("secrets*"), *home.glob("run/*.sock")]
    if found:
        found += [f"{path} can be read by others" for path in keepers if path.exists() and not _private(path)]
    if settings.tokens_file.exists() and _private(settings.tokens_file):
        tokens = read_tokens(settings.tokens_file)
        for log in sorted(settings.logs.glob("*.log*")):
            text = _tail(log)
            found += [f"{log} holds {person}'s token" for person, token in tokens.items() if token.encode() in text]
    return found


def tighten(home: Path) -> bool:
    """Close a home that is open to others; return whether it was."""
    if _private(home):
        return False
    home.chmod(stat.S_IMODE(home.stat().st_mode) & ~_OTHERS)
    return True


def _private(path: Path) -> bool:
    return not path.stat().st_mode & _OTHERS


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read()
