"""Copies whole buckets into files and back, with every version that they hold.

The copies have numbers for names, since an object's name need not be one of a file; an index says whose they are.
"""

from pathlib import Path

from pipelines.adapters.backup.numbered_files import INDEX, number, read_index, write_index
from pipelines.adapters.storage.object_store import S3Access, answered, connect, error_code

_NO_LONGER = ("NoSuchKey", "NoSuchVersion", "404")


class ObjectCopies:
    """The buckets of one store, for who may read and write all of them."""

    def __init__(self, access: S3Access) -> None:
        self._client = connect(access)
        self._endpoint = access.endpoint

    def take(self, bucket: str, into: Path) -> list[str]:
        """Copy a bucket into a new folder; return the names of its files, the index among them.

        What is removed meanwhile is left out. Raises Undecided when the store does not answer.
        """
        from botocore.exceptions import ClientError

        into.mkdir(mode=0o700, parents=True)
        keys = dict[str, str]()
        with answered(self._endpoint):
            for key, version in self._versions(bucket):
                name = number(len(keys) + 1)
                try:
                    self._client.download_file(bucket, key, str(into / name), ExtraArgs={"VersionId": version})
                except ClientError as error:
                    if error_code(error) not in _NO_LONGER:
                        raise
                    continue
                keys[name] = key
        write_index(into, keys)
        return [*keys, INDEX]

    def put(self, folder: Path, bucket: str) -> int:
        """Put what `take` copied into a bucket that is empty; return how many objects.

        Raises BackupDamaged, before any is put, for an index that names another file than those that came with it.
        """
        objects = read_index(folder)
        with answered(self._endpoint):
            for key, file in objects:
                with file.open("rb") as content:
                    self._client.upload_fileobj(content, bucket, key)
        return len(objects)

    def _versions(self, bucket: str) -> list[tuple[str, str]]:
        """Return every version of every object, the oldest first, so that put back each covers those before it."""
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=bucket)
        found = [row for page in pages for row in page.get("Versions", [])]
        found.reverse()
        return [(row["Key"], row["VersionId"]) for row in sorted(found, key=lambda row: row["LastModified"])]
