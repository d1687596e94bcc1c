"""A disk that can be filled: a small file system in memory, which only root can mount."""

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE_MIB = 1024
_CHUNKS = (1 << 20, 4096, 1)


@contextmanager
def small_disk(directory: Path) -> Iterator[Path | None]:
    """Mount one at `directory` for as long as the block takes; yield None where this user can't."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=0700", "slipway-faults", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield directory
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Leave not a byte free on a disk for as long as the block takes."""
    filler = disk / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            for size in _CHUNKS:
                _fill(file.fileno(), b"\0" * size)
        yield
    finally:
        filler.unlink()


def _fill(fd: int, chunk: bytes) -> None:
    while True:
        try:
            os.write(fd, chunk)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return
