"""The tokens file of a home: who may ask this installation, each person by a random token."""

import json
import os
import secrets
from pathlib import Path

from pipelines.errors import UsageError

PEOPLE = ("alice", "bob")


def make_tokens(path: Path) -> None:
    """Write a random token for each person into a 0600 file, unless it exists."""
    if path.exists():
        return
    partial = path.with_suffix(".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({person: secrets.token_urlsafe(32) for person in PEOPLE}, file)
    partial.rename(path)


def read_tokens(path: Path) -> dict[str, str]:
    """Return person -> token; raise UsageError when the file is missing, open to others or has empty tokens."""
    if not path.exists():
        raise UsageError(f"no tokens in {path.parent}", next='run "make up", which makes them')
    if path.stat().st_mode & 0o077:
        raise UsageError(f"{path} can be read by others", next=f"chmod 600 {path}")
    try:
        tokens = json.loads(path.read_text())
    except ValueError:
        tokens = None
    if not isinstance(tokens, dict) or not all(isinstance(token, str) and token for token in tokens.values()):
        raise UsageError(f"{path} does not give each person a token", next='remove it; "make up" writes a new one')
    return tokens
