"""What is found of an object store that others run: a real MinIO, on which a test is the owner who made a mistake."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipelines.adapters.storage.checkpoints_s3 import S3Checkpoints
from pipelines.adapters.storage.external_store import ExternalStore
from pipelines.adapters.storage.object_store import connect
from pipelines.domain.audit import Checkpoint
from pipelines.errors import UsageError
from tests.support.containers.elsewhere import Owner
from tests.support.servers.object_store import MinioServer

DAYS = 30
CLIENTS = ("mlflow", "dvc", "audit")


@pytest.fixture
def owner(minio: MinioServer) -> Owner:
    return Owner(minio, retention_days=DAYS)


def external(owner: Owner) -> ExternalStore:
    endpoint = owner.made.server.root.endpoint
    return ExternalStore(endpoint, endpoint, "us-east-1", owner.made.buckets)


def keys_of(owner: Owner) -> dict[str, str]:
    users = {f"{name}-objects-user": access.access_key for name, access in owner.made.access.items()}
    return users | {f"{name}-objects-password": access.secret_key for name, access in owner.made.access.items()}


def lock(owner: Owner, **rule: Any) -> None:
    """Change the default retention of the heads' bucket."""
    configuration = {"ObjectLockEnabled": "Enabled", **({"Rule": {"DefaultRetention": rule}} if rule else {})}
    root = connect(owner.made.server.root)
    root.put_object_lock_configuration(Bucket=owner.made.buckets.heads, ObjectLockConfiguration=configuration)


def forbid(owner: Owner, client: str, *actions: str) -> None:
    for statement in owner.rights[client]["Statement"]:
        statement["Action"] = [action for action in statement["Action"] if action not in actions]
    owner.allow(client)


def test_a_store_that_is_ready_is_taken_and_nothing_is_left_in_it(owner: Owner) -> None:
    external(owner).check(keys_of(owner), retention_days=DAYS)

    root = connect(owner.made.server.root)
    for bucket in vars(owner.made.buckets).values():
        listed = root.list_object_versions(Bucket=bucket)
        assert (listed.get("Versions"), listed.get("DeleteMarkers")) == (None, None)


def test_a_store_in_use_is_taken_and_its_heads_stay_readable(owner: Owner) -> None:
    checkpoints = S3Checkpoints(owner.made.access["audit"], owner.made.buckets.heads)
    checkpoints.export(Checkpoint(1, "a" * 64))

    external(owner).check(keys_of(owner), retention_days=DAYS)

    assert checkpoints.checkpoints() == [Checkpoint(1, "a" * 64)]


def test_a_year_is_as_good_as_its_days(owner: Owner) -> None:
    lock(owner, Mode="COMPLIANCE", Years=1)
    external(owner).check(keys_of(owner), retention_days=365)


MISTAKES: dict[str, tuple[Callable[[Owner], object], str]] = {
    "list": (
        lambda owner: forbid(owner, "dvc", "s3:ListBucket"),
        "dvc's key may not list dvc-N, or there is no such bucket (AccessDenied)",
    ),
    "list versions": (
        lambda owner: forbid(owner, "audit", "s3:ListBucketVersions", "s3:ListBucket"),
        "audit's key may not list heads-N, or there is no such bucket (AccessDenied)",
    ),
    "read": (
        lambda owner: forbid(owner, "mlflow", "s3:GetObject"),
        "mlflow's key may not read artifacts-N (AccessDenied)",
    ),
    "write": (
        lambda owner: forbid(owner, "audit", "s3:PutObject"),
        "audit's key may not write to heads-N (AccessDenied)",
    ),
    "see the lock": (
        lambda owner: forbid(owner, "audit", "s3:GetBucketObjectLockConfiguration"),
        "audit's key may not read the object lock of heads-N (AccessDenied)",
    ),
    "no retention": (
        lock,
        "heads-N keeps by default for no time at all, not for 30 days (retention_days) in COMPLIANCE",
    ),
    "governance": (
        lambda owner: lock(owner, Mode="GOVERNANCE", Days=DAYS),
        "heads-N keeps by default for 30 days in GOVERNANCE, not for 30 days (retention_days) in COMPLIANCE",
    ),
    "few days": (
        lambda owner: lock(owner, Mode="COMPLIANCE", Days=29),
        "heads-N keeps by default for 29 days in COMPLIANCE, not for 30 days (retention_days) in COMPLIANCE",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_a_client_needs_and_has_not_is_named(owner: Owner, mistake: str) -> None:
    make, told = MISTAKES[mistake]
    make(owner)
    number = owner.made.buckets.dvc.removeprefix("dvc")
    with pytest.raises(UsageError) as refused:
        external(owner).check(keys_of(owner), retention_days=DAYS)
    assert refused.value.message.partition(" is not ready: ")[2] == told.replace("-N", number)
    assert "SLIPWAY_S3_KEYS" in refused.value.next


def test_a_bucket_without_a_lock_is_no_place_for_heads(owner: Owner) -> None:
    buckets, dvc = owner.made.buckets, owner.made.access["dvc"]
    swapped = replace(external(owner), buckets=replace(buckets, heads=buckets.dvc, dvc=buckets.heads))
    root = owner.made.server.root
    keys = keys_of(owner) | {"audit-objects-user": root.access_key, "audit-objects-password": root.secret_key}
    with pytest.raises(UsageError, match=f"{buckets.dvc} has no object lock"):
        swapped.check(keys, retention_days=DAYS)
    assert dvc.secret_key not in str(swapped)


def test_one_key_for_all_is_refused_since_each_may_write_to_the_others(owner: Owner) -> None:
    root = owner.made.server.root
    keys = {f"{name}-objects-user": root.access_key for name in CLIENTS}
    keys |= {f"{name}-objects-password": root.secret_key for name in CLIENTS}
    with pytest.raises(UsageError) as refused:
        external(owner).check(keys, retention_days=DAYS)
    told = refused.value.message.partition(" is not ready: ")[2].split("; ")
    assert len(told) == 6
    assert f"dvc's key may write to {owner.made.buckets.heads}, which is audit's" in told


def test_all_that_is_missing_is_told_at_once(owner: Owner) -> None:
    root = owner.made.server.root
    keys = keys_of(owner) | {"mlflow-objects-password": "not-the-secret", "audit-objects-user": "nobody"}
    keys |= {"dvc-objects-user": root.access_key, "dvc-objects-password": root.secret_key}
    place = external(owner)
    with pytest.raises(UsageError) as refused:
        replace(place, buckets=replace(place.buckets, dvc="not-made-by-anybody")).check(keys, retention_days=DAYS)
    told = refused.value.message.partition(" is not ready: ")[2].split("; ")
    assert told == [
        "mlflow's key is not known there (SignatureDoesNotMatch)",
        "there is no bucket not-made-by-anybody",
        "audit's key is not known there (InvalidAccessKeyId)",
    ]
    assert "not-the-secret" not in str(refused.value)
