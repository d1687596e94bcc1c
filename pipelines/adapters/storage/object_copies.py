"""Copies whole buckets into files and back, with every version that they hold.

The copies have numbers for names, since an object's name need not be one of a file; an index says whose they are.
"""

import json
from pathlib import Path

from pipelines.adapters.storage.object_store import S3Access, answered, connect, error_code

INDEX = "index.jsonl"
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
        names, lines = list[str](), list[str]()
        with answered(self._endpoint):
            for key, version in self._versions(bucket):
                name = f"{len(names) + 1:08d}"
                try:
                    self._client.download_file(bucket, key, str(into / name), ExtraArgs={"VersionId": version})
                except ClientError as error:
                    if error_code(error) not in _NO_LONGER:
                        raise
                    continue
                names.append(name)
                lines.append(json.dumps({"key": key, "file": name}))
        (into / INDEX).write_text("".join(f"{line}\n" for line in lines))
        return [*names, INDEX]

    def put(self, folder: Path, bucket: str) -> int:
        """Put what `take` copied into a bucket that is empty; return how many objects."""
        lines = (folder / INDEX).read_text().splitlines()
        with answered(self._endpoint):
            for line in lines:
                described = json.loads(line)
                with (folder / described["file"]).open("rb") as content:
                    self._client.upload_fileobj(content, bucket, described["key"])
        return len(lines)

    def _versions(self, bucket: str) -> list[tuple[str, str]]:
        """Return every version of every object, the oldest first, so that put back each covers those before it."""
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=bucket)
        found = [row for page in pages for row in page.get("Versions", [])]
        found.reverse()
        return [(row["Key"], row["VersionId"]) for row in sorted(found, key=lambda row: row["LastModified"])]
