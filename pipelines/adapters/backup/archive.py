"""The one file of a backup: a tar in gzip, encrypted on request, whose first file names all others with their digests.

Of an archive nothing is believed: files come in the manifest's order, of its sizes and digests, as plain files, and
into a new folder. What else is in it, and what would take more room than is there, is refused.
"""

import contextlib
import errno
import gzip
import hashlib
import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pipelines.adapters.backup.encryption import MAGIC, decrypting, encrypting
from pipelines.domain.backup import MANIFEST, MANIFEST_LIMIT_BYTES, BackedUpFile, Manifest
from pipelines.errors import BackupDamaged, Undecided, UsageError

_CHUNK_BYTES = 1 << 20
# What a file's name and time may take beside its header.
_EXTENDED_LIMIT_BYTES = 64 * 1024
_GZIP_LEVEL = 3
_OTHER = "take another copy of the backup"


def describe_files(sources: Mapping[str, Path]) -> tuple[BackedUpFile, ...]:
    """Return each file with its size and digest, by its name in the backup."""
    return tuple(BackedUpFile(name=name, bytes=size, sha256=digest) for name, (size, digest) in _hashed(sources))


def write_archive(file: Path, manifest: Manifest, sources: Mapping[str, Path], recipients: Sequence[Any]) -> None:
    """Write the backup whole or not at all, readable by its owner only.

    Raises UsageError when there is such a file already, or when there are more files than can be read back, Undecided
    when a source is not what the manifest says by now.
    """
    if file.exists():
        raise UsageError(f"{file} exists", next="name a new file")
    partial, content = file.with_name(f"{file.name}.partial"), manifest.content()
    try:
        partial.unlink(missing_ok=True)
        with open(partial, "xb", opener=_private) as whole:
            with contextlib.ExitStack() as stack:
                sink = stack.enter_context(encrypting(whole, recipients)) if recipients else whole
                squeezed = gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0)
                with squeezed, tarfile.open(fileobj=squeezed, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                    tar.addfile(_header(MANIFEST, len(content)), BytesIO(content))
                    for each in manifest.files:
                        _add(tar, each, sources[each.name])
            whole.flush()
            os.fsync(whole.fileno())
        partial.rename(file)
    except OSError as error:
        raise Undecided(f"{file} could not be written: {error}", next="name another place, or make room") from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def opened_archive(file: Path, identities: Sequence[Any]) -> Iterator["ArchiveReader"]:
    """Open a backup and read its manifest.

    Raises UsageError for a file that can't be read or whose key is missing, BackupDamaged for one that is no backup.
    """
    try:
        whole = file.open("rb")
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error}", next="name the file of a backup") from error
    with whole, contextlib.ExitStack() as stack:
        encrypted = whole.peek(len(MAGIC)).startswith(MAGIC)
        if encrypted and not identities:
            raise UsageError(f"{file} is encrypted", next="name the file of its key: IDENTITY=key.txt")
        plain: BinaryIO = stack.enter_context(decrypting(whole, identities)) if encrypted else whole
        with _damage(file):
            unsqueezed = gzip.GzipFile(fileobj=plain, mode="rb")
            with tarfile.open(fileobj=unsqueezed, mode="r|", tarinfo=_PlainFile, errorlevel=2) as tar:
                yield ArchiveReader(file, unsqueezed, tar)


class ArchiveReader:
    """A backup that is being read, once and in its order."""

    def __init__(self, file: Path, stream: Any, tar: tarfile.TarFile) -> None:
        self._file = file
        self._stream = stream
        self._tar = tar
        self.manifest = Manifest.read(self._read_manifest())

    def unpack(self, into: Path) -> None:
        """Write every file below the folder `into`, which is empty, and check its digest."""
        free = shutil.disk_usage(into).free
        if self.manifest.size_bytes > free:
            raise UsageError(
                f"the backup takes {self.manifest.size_bytes:,} bytes, and {free:,} are free in {into.parent}",
                next="make room, or name another home",
            )
        for each in self.manifest.files:
            self._unpack_one(each, into / each.name)
        if self._tar.next() is not None or self._stream.read(_CHUNK_BYTES).strip(b"\0"):
            raise BackupDamaged(f"{self._file} holds more than its manifest names", next=_OTHER)

    def _read_manifest(self) -> bytes:
        first = self._tar.next()
        if first is None or first.name != MANIFEST or first.size > MANIFEST_LIMIT_BYTES:
            raise BackupDamaged(f"{self._file} does not begin with a manifest", next=_OTHER)
        return b"".join(self._content(first))

    def _unpack_one(self, expected: BackedUpFile, path: Path) -> None:
        found = self._tar.next()
        if found is None or (found.name, found.size) != (expected.name, expected.bytes):
            told = f"{found.name[:80]!r} of {found.size:,} bytes" if found else "nothing"
            raise BackupDamaged(
                f"{self._file} holds {told} instead of {expected.name} of {expected.bytes:,} bytes", next=_OTHER
            )
        _make_private(path.parent)
        digest = hashlib.sha256()
        with open(path, "xb", opener=_private) as copy:
            for chunk in self._content(found):
                digest.update(chunk)
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())
        if digest.hexdigest() != expected.sha256:
            raise BackupDamaged(
                f"{expected.name}: digest mismatch, expected {expected.sha256} got {digest.hexdigest()}", next=_OTHER
            )

    def _content(self, entry: tarfile.TarInfo) -> Iterator[bytes]:
        content = self._tar.extractfile(entry)
        while content and (chunk := content.read(_CHUNK_BYTES)):
            yield chunk


class _PlainFile(tarfile.TarInfo):
    """An entry that is a plain file, or the short header of one; links, devices and folders are refused unread."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        too_long = self.type == tarfile.XHDTYPE and self.size > _EXTENDED_LIMIT_BYTES
        if self.type not in (tarfile.REGTYPE, tarfile.XHDTYPE) or too_long:
            raise BackupDamaged(f"{self.name[:80]!r} in the backup is no plain file", next=_OTHER)
        entry: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return entry

    def _refuse_sparse(self, *_: object) -> None:
        """Refuse a file with holes before the map of them is read, which may be of any length."""
        raise BackupDamaged("a file in the backup has holes", next=_OTHER)

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


def _hashed(sources: Mapping[str, Path]) -> Iterator[tuple[str, tuple[int, str]]]:
    for name, path in sources.items():
        digest, size = hashlib.sha256(), 0
        with _opened(path) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
        yield name, (size, digest.hexdigest())


def _add(tar: tarfile.TarFile, described: BackedUpFile, source: Path) -> None:
    with _opened(source) as file:
        hashing = _Hashing(file)
        if os.fstat(file.fileno()).st_size == described.bytes:
            tar.addfile(_header(described.name, described.bytes), hashing)
    if hashing.digest.hexdigest() != described.sha256:
        raise Undecided(f"{described.name} was changed while it was backed up", next="back up again")


@contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    """Open what is backed up; raise Undecided for what was removed since it was found."""
    try:
        file = source.open("rb")
    except OSError as error:
        raise Undecided(f"{source} can't be backed up any more: {error.strerror}", next="back up again") from error
    with file:
        yield file


class _Hashing:
    """A file whose digest grows while it is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read and hash."""
        chunk = self._file.read(size)
        self.digest.update(chunk)
        return chunk


def _header(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry


def _make_private(folder: Path) -> None:
    """Make a folder, and those that it is in, for their owner only."""
    if not folder.exists():
        _make_private(folder.parent)
        folder.mkdir(mode=0o700)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


@contextmanager
def _damage(file: Path) -> Iterator[None]:
    """Turn what a damaged archive makes its readers raise into BackupDamaged."""
    try:
        yield
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, RecursionError) as error:
        raise BackupDamaged(f"{file} is damaged, or no backup: {error}", next=_OTHER) from error
    except OSError as error:
        if error.errno == errno.EEXIST:
            raise BackupDamaged(f"{file} holds a file twice: {error.filename}", next=_OTHER) from error
        raise Undecided(f"{file} can't be restored: {error}", next="make room, then restore again") from error
