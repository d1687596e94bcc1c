"""The object store through S3: who may ask it, its buckets, and what each client may do there.

One user a client, each with its own bucket and no way to another; the services that answer predictions have
none. The bucket of the checkpoints is locked: until its days have passed nobody takes a checkpoint away, root included.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.errors import SlipwayError, Undecided, UsageError

CONNECT_S = 2
READ_S = 5
ATTEMPTS = 2
# What MinIO calls its place unless told otherwise.
REGION = "us-east-1"


@dataclass(frozen=True)
class S3Access:
    """Where an object store is (`http://host:port`), who asks, and by whose certificate it is known there."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    authority: Path | None = None
    region: str = REGION


@dataclass(frozen=True)
class Buckets:
    """The names of the three buckets."""

    artifacts: str = "mlflow"
    dvc: str = "dvc"
    heads: str = "audit-heads"


def connect(access: S3Access) -> Any:
    """Return a boto3 client, safe to share by threads, whose calls end in bounded time."""
    import boto3
    from botocore.config import Config

    bounded = Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=32,
        # It is reached directly, whoever runs it: no proxy stands in between.
        proxies={},
        s3={"addressing_style": "path"},
    )
    return boto3.session.Session().client(
        "s3",
        endpoint_url=access.endpoint,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        region_name=access.region,
        verify=str(access.authority) if access.authority else None,
        config=bounded,
    )


def make_buckets(root: S3Access, buckets: Buckets, *, retention_days: int) -> None:
    """Make missing buckets, and let new checkpoints be kept for `retention_days`; those already kept stay as they are.

    Raises UsageError when the store refuses, Undecided when it does not answer.
    """
    if retention_days < 1:
        raise UsageError(f"{retention_days} days is no time to keep checkpoints", next="give 1 or more")
    client = connect(root)
    with answered(root.endpoint):
        _make(client, buckets.artifacts)
        _make(client, buckets.dvc)
        # A lock brings versions with it, and can only be had from the beginning.
        _make(client, buckets.heads, ObjectLockEnabledForBucket=True)
        rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": retention_days}}
        if not _is_locked(client, buckets.heads):
            raise UsageError(
                f"bucket {buckets.heads!r} was made without object lock", next="give the checkpoints another bucket"
            )
        client.put_object_lock_configuration(
            Bucket=buckets.heads, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
        )


def policies(buckets: Buckets) -> dict[str, dict[str, Any]]:
    """Return the policy of each user: `mlflow`, `dvc`, and `audit`, which adds checkpoints and reads them."""
    files = ["GetObject", "PutObject", "AbortMultipartUpload", "ListMultipartUploadParts"]
    listing = ["ListBucket", "GetBucketLocation"]
    versions = ["ListBucketVersions", "GetBucketLocation"]
    return {
        "mlflow": _policy(buckets.artifacts, listing, [*files, "DeleteObject"]),
        "dvc": _policy(buckets.dvc, listing, files),
        "audit": _policy(buckets.heads, versions, ["GetObject", "GetObjectVersion", "PutObject"]),
    }


@contextmanager
def answered(endpoint: str) -> Iterator[None]:
    """Turn an answer that is a no into UsageError, and no answer into Undecided."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        kind: type[SlipwayError] = UsageError if 400 <= status < 500 else Undecided
        raise kind(
            f"the object store at {endpoint} refuses: {str(error)[:200]}",
            next="check its root user and the names of the buckets",
        ) from error
    except BotoCoreError as error:
        raise Undecided(
            f"the object store at {endpoint} does not answer: {str(error)[:200]}", next="see that it runs"
        ) from error


def error_code(error: Exception) -> str:
    """Return the S3 error code of a refusal, or an empty text."""
    response = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", ""))


def _make(client: Any, bucket: str, **how: object) -> None:
    from botocore.exceptions import ClientError

    try:
        client.create_bucket(Bucket=bucket, **how)
    except ClientError as error:
        if error_code(error) != "BucketAlreadyOwnedByYou":
            raise


def _is_locked(client: Any, bucket: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.get_object_lock_configuration(Bucket=bucket)
    except ClientError as error:
        if error_code(error) != "ObjectLockConfigurationNotFoundError":
            raise
        return False
    return True


def _policy(bucket: str, of_bucket: list[str], of_objects: list[str]) -> dict[str, Any]:
    """Return a policy for one bucket; its user can't make itself further keys, which would outlive a rotation."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            _statement("Allow", [f"s3:{action}" for action in of_bucket], f"arn:aws:s3:::{bucket}"),
            _statement("Allow", [f"s3:{action}" for action in of_objects], f"arn:aws:s3:::{bucket}/*"),
            {"Effect": "Deny", "Action": ["admin:CreateServiceAccount"]},
        ],
    }


def _statement(effect: str, actions: list[str], resource: str) -> dict[str, Any]:
    return {"Effect": effect, "Action": actions, "Resource": [resource]}
