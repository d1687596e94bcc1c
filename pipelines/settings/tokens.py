"""The tokens file of a home: who may ask this installation, each person by a random token."""

import json
import secrets
from pathlib import Path

from pipelines.disk import write_whole
from pipelines.errors import UsageError

# As whom the verbs that bring all up and take it down act, and who approves in the demonstration.
OPERATOR, APPROVER = "alice", "bob"
PEOPLE = (OPERATOR, APPROVER)


def make_tokens(path: Path) -> None:
    """Write a random token for each person into a 0600 file, unless it exists."""
    if path.exists():
        return
    write_whole(path, json.dumps({person: secrets.token_urlsafe(32) for person in PEOPLE}))


def read_tokens(path: Path) -> dict[str, str]:
    """Return person -> token; raise UsageError when the file is missing, open to others or has empty tokens."""
    if not path.exists():
        raise UsageError(f"no tokens in {path.parent}", next='run "make up", which makes them')
    if path.stat().st_mode & 0o077:
        raise UsageError(f"{path} can be read by others", next=f"chmod 600 {path}")
    try:
        tokens = json.loads(path.read_text())
    except (ValueError, RecursionError):
        tokens = None
    if not isinstance(tokens, dict) or not all(isinstance(token, str) and token for token in tokens.values()):
        raise UsageError(f"{path} does not give each person a token", next='remove it; "make up" writes a new one')
    return tokens


def token_of(path: Path, person: str) -> str:
    """Return one person's token; raise UsageError when `read_tokens` does, or when the file has none of theirs."""
    tokens = read_tokens(path)
    if person not in tokens:
        raise UsageError(f"no token for {person[:40]!r}", next="one of: " + ", ".join(tokens))
    return tokens[person]


def own_token(path: Path, person: str, *, verb: str) -> str:
    """Return the token of a person as whom a verb acts by itself; raise UsageError when `read_tokens` does, or none."""
    token = read_tokens(path).get(person)
    if token is None:
        raise UsageError(
            f'{path} has no token for {person}, and "{verb}" acts as {person}',
            next=f'add one, or remove the file: "make up" writes a new one, for {" and ".join(PEOPLE)} only',
        )
    return token
