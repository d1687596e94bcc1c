"""An object store that others run, tried with the keys that its owner gave before anything is built on it.

Slipway can make neither buckets nor users there. Each key is tried on each bucket, in ways that leave nothing behind.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.adapters.containers.secret_store import read_given
from pipelines.adapters.storage.object_store import Buckets, S3Access, connect, error_code
from pipelines.errors import Undecided, UsageError

# Which bucket each client has.
_BUCKETS = {"mlflow": "artifacts", "dvc": "dvc", "audit": "heads"}
_PARTS = {"user": "access_key", "password": "secret_key"}
KEYS = frozenset(f"{client}-objects-{part}" for client in _BUCKETS for part in _PARTS)
_FORM = '{"mlflow": {"access_key": "...", "secret_key": "..."}, "dvc": ..., "audit": ...}'
_UNKNOWN = ("InvalidAccessKeyId", "SignatureDoesNotMatch")
_NO_BUCKET = "NoSuchBucket"
_NO_LOCK = "ObjectLockConfigurationNotFoundError"
_OBJECT = "slipway-looks"
# Of nothing that is sent: who may write is told that the digest is wrong, and nothing is written.
_WRONG_MD5 = "AAAAAAAAAAAAAAAAAAAAAA=="


@dataclass(frozen=True)
class ExternalStore:
    """Where it is: for containers at `endpoint`, for this machine and DVC's clients at `url`.

    `authority` signed its certificate, where not everybody knows who did.
    """

    endpoint: str
    url: str
    region: str
    buckets: Buckets
    authority: Path | None = None

    def access(self, client: str, keys: Mapping[str, str]) -> S3Access:
        """Return how this machine asks it as one of the clients."""
        user, password = keys[f"{client}-objects-user"], keys[f"{client}-objects-password"]
        return S3Access(self.url, user, password, self.authority, self.region)

    def check(self, keys: Mapping[str, str], *, retention_days: int) -> None:
        """Raise UsageError with all that is missing, Undecided when it does not answer."""
        from botocore.exceptions import BotoCoreError

        clients = {name: connect(self.access(name, keys)) for name in _BUCKETS}
        try:
            # First where nothing is locked: what is written to the checkpoints stays there.
            if not _refusal_of_wrong(clients["dvc"], self.buckets.dvc):
                raise UsageError(
                    f"the object store at {self.url} stores what does not fit its digest (Content-MD5)",
                    next=f"use one that checks what it is sent, and remove {_OBJECT} from {self.buckets.dvc}",
                )
            lacks = [lack for name, client in clients.items() for lack in self._lacks_of_key(name, client)]
            lacks += _lacks_of_lock(clients["audit"], self.buckets.heads, retention_days)
        except BotoCoreError as error:
            raise Undecided(
                f"the object store at {self.url} does not answer: {str(error)[:200]}",
                next="see that it runs, and that this machine reaches and trusts it",
            ) from error
        if lacks:
            raise UsageError(
                f"the object store at {self.url} is not ready: {'; '.join(dict.fromkeys(lacks))}",
                next='have its owner mend that; keys are given by SLIPWAY_S3_KEYS. Then "make up" again',
            )

    def _lacks_of_key(self, name: str, client: Any) -> Iterator[str]:
        buckets = {other: getattr(self.buckets, bucket) for other, bucket in _BUCKETS.items()}
        own = buckets.pop(name)
        listing = client.list_object_versions if name == "audit" else client.list_objects_v2
        said = _refusal(lambda: listing(Bucket=own, MaxKeys=1))
        if said in _UNKNOWN:
            yield f"{name}'s key is not known there ({said})"
            return
        if said == _NO_BUCKET:
            yield f"there is no bucket {own}"
            return
        if said:
            # Some stores tell nobody without a right whether a bucket is there.
            yield f"{name}'s key may not list {own}, or there is no such bucket ({said})"
        if said := _refusal(lambda: client.get_object(Bucket=own, Key=_OBJECT), "NoSuchKey"):
            yield f"{name}'s key may not read {own} ({said})"
        if said := _refusal_to_write(client, own):
            yield f"{name}'s key may not write to {own} ({said})"
        for other, bucket in buckets.items():
            if not _refusal_to_write(client, bucket):
                yield f"{name}'s key may write to {bucket}, which is {other}'s"


def read_keys(path: Path) -> dict[str, str]:
    """Return the secrets that a file of keys holds, by their names here; raise UsageError where one is missing."""
    given = read_given(path, "SLIPWAY_S3_KEYS")
    try:
        keys = {f"{name}-objects-{part}": given[name][key] for name in _BUCKETS for part, key in _PARTS.items()}
    except (KeyError, TypeError):
        keys = {}
    if not keys or not all(isinstance(value, str) and value for value in keys.values()):
        raise UsageError(f"SLIPWAY_S3_KEYS={path} does not hold a key for each client", next=f"write {_FORM}")
    return keys


def _lacks_of_lock(client: Any, bucket: str, days: int) -> Iterator[str]:
    """Say why the checkpoints that are put into a bucket would not stay there."""
    from botocore.exceptions import ClientError

    try:
        lock = client.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    except ClientError as error:
        code = error_code(error)
        if code == _NO_LOCK:
            yield f"{bucket} has no object lock"
        elif code not in (*_UNKNOWN, _NO_BUCKET):
            yield f"audit's key may not read the object lock of {bucket} ({code})"
        return
    kept = lock.get("Rule", {}).get("DefaultRetention", {})
    kept_days = kept.get("Days", 0) + 365 * kept.get("Years", 0)
    if kept.get("Mode") != "COMPLIANCE" or kept_days < days:
        found = f"{kept_days} days in {kept['Mode']}" if kept else "no time at all"
        yield f"{bucket} keeps by default for {found}, not for {days} days (retention_days) in COMPLIANCE"


def _refusal_to_write(client: Any, bucket: str) -> str:
    """Return the code of the refusal, empty for who may write; nothing is written either way."""
    return _refusal_of_wrong(client, bucket, "BadDigest", "InvalidDigest")


def _refusal_of_wrong(client: Any, bucket: str, *granted: str) -> str:
    """Return the code of the refusal to store what does not fit its digest, empty for the codes that are `granted`."""
    return _refusal(
        lambda: client.put_object(Bucket=bucket, Key=_OBJECT, Body=b"looks", ContentMD5=_WRONG_MD5), *granted
    )


def _refusal(ask: Callable[[], object], *granted: str) -> str:
    """Return the code of a refusal, empty for an answer and for the codes that only those get who may ask."""
    from botocore.exceptions import ClientError

    try:
        ask()
    except ClientError as error:
        code = error_code(error) or str(error)[:80]
        return "" if code in granted else code
    return ""
