"""Whether files hold the bytes that dvc.lock names for them: DVC takes what lies in its cache for good, unread.

Without this a spoiled file would be trained on, and registered under the lineage of another.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from pipelines.documents import DocumentError, read_yaml
from pipelines.errors import UsageError
from pipelines.training.repositories import dvc_root

_CACHE = Path(".dvc/cache/files/md5")


class _Output(BaseModel):
    path: Path
    md5: str | None = None


class _Stage(BaseModel):
    outs: tuple[_Output, ...] = ()


class _Lock(BaseModel):
    """What of dvc.lock matters here."""

    stages: dict[str, _Stage] = {}


def drop_spoiled(root: Path) -> list[str]:
    """Remove outputs, and their copies in the cache, that are not what dvc.lock names; return their names.

    DVC then makes them anew.
    """
    dropped = []
    kept = dvc_root(root) or root
    for path, md5 in _outputs(root):
        for where, name in ((root, path), (kept, _CACHE / md5[:2] / md5[2:])):
            if (where / name).is_file() and _md5(where / name) != md5:
                (where / name).unlink()
                dropped.append(str(name))
    return dropped


def refuse_spoiled(root: Path) -> None:
    """Raise UsageError for an output that is not what dvc.lock names; a tree without that file has no lineage."""
    for path, md5 in _outputs(root):
        if (root / path).is_file() and (found := _md5(root / path)) != md5:
            raise UsageError(
                f"{path} is not what dvc.lock names: expected md5 {md5}, got {found}",
                next='run "make candidate", which makes it anew',
            )


def _outputs(root: Path) -> Iterator[tuple[Path, str]]:
    lock = root / "dvc.lock"
    try:
        stages = _Lock.model_validate(read_yaml(lock)).stages if lock.exists() else {}
    except (DocumentError, ValidationError) as error:
        raise UsageError(f"{lock} can't be read: {error}", next='bring it back with git, or run "dvc repro"') from error
    for stage in stages.values():
        for output in stage.outs:
            if output.md5:
                yield output.path, output.md5


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()
