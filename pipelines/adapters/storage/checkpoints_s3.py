"""Checkpoints as locked objects, so that a rewritten database contradicts what nobody can take away."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from pipelines.adapters.storage.object_store import S3Access, connect, error_code
from pipelines.domain.audit import Checkpoint
from pipelines.errors import DatabaseUnavailable, Refused, Undecided

READERS = 8

# The store's words for "there is one already".
_TAKEN = ("PreconditionFailed", "ConditionalRequestConflict")


class S3Checkpoints:
    """Fills ports.Checkpoints with one object a checkpoint, named by its number and written once.

    A bucket's lock keeps versions from being removed, not from being covered by another: so every version of
    every object counts as a checkpoint, and one that was forged stands beside the one that it contradicts.
    """

    def __init__(self, access: S3Access, bucket: str, prefix: str = "") -> None:
        self._client = connect(access)
        self._where = f"s3://{bucket} at {access.endpoint}"
        self._bucket = bucket
        self._prefix = prefix
        # What a version holds never changes; which versions there are is asked every time.
        self._known: dict[tuple[str, str], Checkpoint] = {}

    def export(self, checkpoint: Checkpoint) -> None:
        """Write one checkpoint, unless it is there; raise Refused when another is there under its number."""
        from botocore.exceptions import ClientError

        key = self._key(checkpoint.seq)
        body = json.dumps({"seq": checkpoint.seq, "hash": checkpoint.hash}).encode()
        with self._answered(f"the checkpoint {checkpoint.seq} could not be kept"):
            try:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=body, IfNoneMatch="*")
            except ClientError as error:
                if error_code(error) not in _TAKEN:
                    raise
                self._compare(checkpoint, self._read(key))

    def checkpoints(self) -> list[Checkpoint]:
        """Return every checkpoint of every version, by number. Raises Undecided for an object that is none."""
        with self._answered("the checkpoints could not be read"):
            pages = self._client.get_paginator("list_object_versions")
            listed = pages.paginate(Bucket=self._bucket, Prefix=self._prefix)
            versions = [(row["Key"], row["VersionId"]) for page in listed for row in page.get("Versions", [])]
            with ThreadPoolExecutor(READERS) as pool:
                found = set(pool.map(self._read_version, versions))
        return sorted(found, key=lambda checkpoint: (checkpoint.seq, checkpoint.hash))

    def _key(self, seq: int) -> str:
        return f"{self._prefix}{seq:012d}.json"

    def _read_version(self, version: tuple[str, str]) -> Checkpoint:
        if version not in self._known:
            self._known[version] = self._read(*version)
        return self._known[version]

    def _read(self, key: str, version: str | None = None) -> Checkpoint:
        which = {"VersionId": version} if version else {}
        body: bytes = self._client.get_object(Bucket=self._bucket, Key=key, **which)["Body"].read()
        try:
            row = json.loads(body)
            checkpoint = Checkpoint(int(row["seq"]), str(row["hash"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise self._foreign(key) from error
        if self._key(checkpoint.seq) != key:
            raise self._foreign(key)
        return checkpoint

    def _foreign(self, key: str) -> Undecided:
        return Undecided(
            f"{key} in {self._where} is not a checkpoint",
            next="find out who put it there; Slipway writes nothing else into this bucket",
        )

    def _compare(self, checkpoint: Checkpoint, there: Checkpoint) -> None:
        if there != checkpoint:
            raise Refused(
                f"audit entry {checkpoint.seq} has the hash {checkpoint.hash}, but {self._where} holds {there.hash}: "
                "the database was rewritten, or put back to an older state",
                next='run "slipway audit-verify", and keep the database as it is',
            )

    @contextmanager
    def _answered(self, failure: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            raise DatabaseUnavailable(
                f"{failure} in {self._where}: {str(error)[:200]}",
                next="see that the object store runs and knows this user, then do it again",
            ) from error
