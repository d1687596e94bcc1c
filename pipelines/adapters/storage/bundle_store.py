"""Bundles on disk, each in a folder named by its digest; no byte of one is handed out unverified."""

import io
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from pipelines.disk import sync
from pipelines.domain.bundle import canonical, digest_of
from pipelines.domain.names import checked_name
from pipelines.errors import DeployFailed, UsageError
from pipelines.packaging.file_digest import digest_of_file

T = TypeVar("T")

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_BODY = "bundle.json"
_PARTIAL, _ASIDE, _GONE = ".partial-", ".aside-", ".gone-"
# What is of no bundle, or not of one any more.
PASSING = (_PARTIAL, _ASIDE, _GONE)
# Longer than it takes to store any bundle.
_CUT_OFF_S = 24 * 3600.0


class BundleStore:
    """A folder of content-addressed bundles."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, body: dict[str, Any], files: dict[str, Path]) -> str:
        """Store a bundle and return its digest; storing it again changes nothing.

        `body["files"]` names exactly `files`, with their SHA-256; anything else raises.
        """
        content = canonical(body)
        digest = digest_of(content)
        if self.has(digest):
            self.path(digest)
            return digest
        if set(body["files"]) != set(files):
            raise UsageError(
                f"the bundle lists {sorted(body['files'])} but holds {sorted(files)}", next="build it again"
            )
        self._root.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self._root))
        try:
            for name, source in files.items():
                checked = checked_name(name, what="file name")
                with source.open("rb") as file:
                    _write(partial / checked, file)
            _write(partial / _BODY, io.BytesIO(content))
            partial.chmod(0o755)
            _verify(partial, digest)
            self._publish(partial, self._folder(digest))
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return digest

    def has(self, digest: str) -> bool:
        """Whether the store holds a bundle of that digest, intact or not."""
        return self._folder(digest).is_dir()

    def path(self, digest: str) -> Path:
        """Return the bundle's folder after verifying every byte; raise DeployFailed for any difference."""
        folder = self._folder(digest)
        _verify(folder, digest)
        return folder

    def body(self, digest: str) -> dict[str, Any]:
        """Return the parsed `bundle.json`, verified against the digest."""
        return _verified_body(self._folder(digest), digest)

    def digests(self) -> list[str]:
        """Return the digests of all bundles that are stored."""
        names = sorted(path.name for path in self._root.glob("sha256-*")) if self._root.is_dir() else []
        return [name.replace("-", ":", 1) for name in names if _DIGEST.fullmatch(name.replace("-", ":", 1))]

    def set_aside(self, digest: str) -> None:
        """Take a bundle out of the store at once, until `clear_aside`."""
        folder = self._folder(digest)
        folder.rename(folder.with_name(f"{_ASIDE}{folder.name}"))

    def clear_aside(self, *, back: bool = False) -> None:
        """Remove what was set aside, or with `back` put it where it was.

        Whatever was cut off before is removed as well; raises OSError, once all has been tried, for what resists.
        """
        for folder in self._root.glob(f"{_ASIDE}sha256-*"):
            kept = folder.with_name(folder.name.removeprefix(_ASIDE))
            # What has lost a part to a removal that was cut off must never come back.
            gone = folder.with_name(f"{_GONE}{secrets.token_hex(8)}")
            folder.rename(kept if back and not kept.exists() else gone)
        if not back:
            self._sweep()

    def _sweep(self) -> None:
        resisting = None
        before = time.time() - _CUT_OFF_S
        cut_off = [folder for folder in self._root.glob(f"{_PARTIAL}*") if _changed(folder) < before]
        for folder in [*self._root.glob(f"{_GONE}*"), *cut_off]:
            try:
                shutil.rmtree(folder)
            except OSError as error:
                resisting = error
        if resisting:
            raise resisting

    def _folder(self, digest: str) -> Path:
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise UsageError(f"{digest[:80]!r} is not a digest", next="give sha256: and 64 hex digits")
        return self._root / f"sha256-{match[1]}"

    def _publish(self, partial: Path, folder: Path) -> None:
        sync(partial)
        try:
            partial.rename(folder)
        except OSError:
            # Only if another process has stored the same bundle in the meantime is this no failure.
            if not folder.is_dir():
                raise
        sync(self._root)


def _verify(folder: Path, digest: str) -> None:
    body = _verified_body(folder, digest)
    # What lies beside the listed files is nobody's: it is never read, and keeps nobody from the right bytes.
    for name, wanted in body["files"].items():
        _same(f"{name} of bundle {digest}", wanted, _read(folder / name, digest_of_file), folder)


def _verified_body(folder: Path, digest: str) -> dict[str, Any]:
    if not folder.is_dir():
        raise DeployFailed(f"bundle {digest} is not in the store", next='run "make deploy-staging" to build it again')
    content = _read(folder / _BODY, Path.read_bytes)
    _same(_BODY, digest, digest_of(content), folder)
    body: dict[str, Any] = json.loads(content)
    return body


def _same(what: str, expected: str, got: str, folder: Path) -> None:
    if expected != got:
        raise DeployFailed(f"{what}: digest mismatch, expected {expected} got {got}", next=_repair(folder))


def _repair(folder: Path) -> str:
    return f'delete {folder} and run "make deploy-staging" to build it again'


def _read(path: Path, how: Callable[[Path], T]) -> T:
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise DeployFailed(f"{path} is not a plain file", next=_repair(path.parent))
        return how(path)
    except OSError as error:
        raise DeployFailed(f"{path} can't be read: {error}", next=_repair(path.parent)) from error


def _write(path: Path, content: IO[bytes]) -> None:
    with path.open("xb") as file:
        shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o644)


def _changed(folder: Path) -> float:
    """Return when a folder was changed last, the present for one that has gone meanwhile."""
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:
        return time.time()
