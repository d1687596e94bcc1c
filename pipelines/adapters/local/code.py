"""Remembers by which code each process of a home was started, so that an upgrade leaves none of the code before."""

import hashlib
from pathlib import Path

from pipelines.adapters.local.private_json import read_private, write_private

_FOLDERS = ("app", "pipelines", "requirements")


class StartedCode:
    """The code of each part, by the part's name; of what an earlier Slipway started it is not known."""

    def __init__(self, home: Path) -> None:
        self._file = home / "run" / "code.json"

    def is_of(self, name: str, code: str) -> bool:
        """Whether a part was started by this code."""
        return bool(read_private(self._file).get(name) == code)

    def keep(self, name: str, code: str) -> None:
        """Remember the code of a part that is started now."""
        write_private(self._file, {**read_private(self._file), name: code})


def own_code(root: Path) -> str:
    """Return a digest of the code in `root` that API, executor, supervisors and replicas are started from."""
    digest = hashlib.sha256()
    for folder in _FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()
