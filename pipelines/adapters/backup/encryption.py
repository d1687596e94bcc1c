"""Encrypts a stream to the public keys of age, and decrypts one: nothing of it touches the disk in the clear."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

from pipelines.errors import BackupDamaged, UsageError

# With this every file of age begins.
MAGIC = b"age-encryption.org/"


def read_recipients(given: Sequence[str]) -> list[Any]:
    """Return age's public keys (`age1...`, or those of SSH); raise UsageError for what is none."""
    import pyrage

    def read(text: str) -> Any:
        try:
            kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
            return kind.Recipient.from_str(text)
        except pyrage.RecipientError as error:
            raise UsageError(
                f"{text[:40]!r} is no public key of age: {error}",
                next="age-keygen makes a pair; its key begins with age1",
            ) from error

    return [read(text) for text in given]


def read_identities(file: Path) -> list[Any]:
    """Return the secret keys in a file as age-keygen, or ssh-keygen, writes it; raise UsageError without any."""
    import pyrage

    try:
        text = file.read_text()
        if text.startswith("-----BEGIN"):
            return [pyrage.ssh.Identity.from_buffer(text.encode())]
        lines = [line.strip() for line in text.splitlines()]
        keys = [pyrage.x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except (OSError, UnicodeDecodeError, pyrage.IdentityError) as error:
        # Its text must not get into a message.
        raise UsageError(
            f"{file} holds no secret key of age: {type(error).__name__}", next="name the file that age-keygen wrote"
        ) from None
    if not keys:
        raise UsageError(f"{file} holds no secret key of age", next="name the file that age-keygen wrote")
    return keys


@contextmanager
def encrypting(sink: BinaryIO, recipients: Sequence[Any]) -> Iterator[BinaryIO]:
    """Lend what writes into `sink`, encrypted to all `recipients`; the end of the block is the end of the stream."""
    import pyrage

    reading, writing = os.pipe()
    encrypted = _thread(reading, lambda source: pyrage.encrypt_io(source, sink, list(recipients)))
    with encrypted as trouble, open(writing, "wb") as plain:
        yield plain
    if trouble:
        raise trouble[0]


@contextmanager
def decrypting(source: BinaryIO, identities: Sequence[Any]) -> Iterator[BinaryIO]:
    """Lend what reads the content of `source`; raise BackupDamaged when it is not of these keys or was changed."""
    import pyrage

    reading, writing = os.pipe()

    def decrypt(sink: IO[bytes]) -> None:
        pyrage.decrypt_io(source, sink, list(identities))

    with _thread(writing, decrypt, mode="wb") as trouble, open(reading, "rb") as plain:
        try:
            yield plain
        except BackupDamaged:
            # What is decrypted too little is read too little: the key is the reason, not the archive.
            _drain(plain)
            if not trouble:
                raise
    if trouble and not isinstance(trouble[0], BrokenPipeError):
        raise BackupDamaged(
            f"the backup can't be decrypted: {trouble[0]}", next="name the file of its key: IDENTITY=key.txt"
        ) from trouble[0]


@contextmanager
def _thread(end: int, work: Callable[[IO[bytes]], None], mode: str = "rb") -> Iterator[list[Exception]]:
    """Run `work` with one end of a pipe beside the block; yield what it failed of, known once the block has ended."""
    trouble: list[Exception] = []

    def run() -> None:
        with open(end, mode) as stream:
            try:
                work(stream)
            except Exception as error:
                trouble.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield trouble
    finally:
        thread.join()


def _drain(stream: BinaryIO) -> None:
    while stream.read(1 << 20):
        continue
