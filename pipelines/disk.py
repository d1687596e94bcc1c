"""Writes to the disk what a power cut must not take back, nor leave without its content, and removes deep folders."""

import errno
import os
import secrets
from pathlib import Path

from pipelines.errors import Undecided


def as_full(error: Exception) -> Undecided | None:
    """Return the refusal for a full disk or a quota that is used up, None for any other error."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Undecided(f"can't write: {error}", next="make room on the disk, then do it again")
    return None


def sync(path: Path) -> None:
    """Return when a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Write a 0600 file of which a reader, also one after a power cut, finds the former content or the new one."""
    partial = path.with_name(f"{path.name}.partial")
    # One that was left half-written may have other rights.
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def remove_tree(folder: Path) -> None:
    """Remove a folder, however deep the folders in it lie in one another; raise OSError for what resists.

    What goes down with them, as the standard library does, ends where Python's stack does: here each is moved up first.
    """
    top = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _empty(top, top)
        while left := os.listdir(top):
            for name in left:
                inner = os.open(name, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                try:
                    _empty(inner, top)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(folder)


def _empty(folder: int, top: int) -> None:
    """Remove the files of a folder, and move the folders in it to the top, by names that nobody else has given."""
    for name in os.listdir(folder):
        try:
            os.unlink(name, dir_fd=folder)
        except (IsADirectoryError, PermissionError):
            # What Linux and macOS say of a folder. Without rights to it, it could be neither moved nor emptied.
            os.chmod(name, 0o700, dir_fd=folder)
            os.rename(name, secrets.token_hex(16), src_dir_fd=folder, dst_dir_fd=top)
