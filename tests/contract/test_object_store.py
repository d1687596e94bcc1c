"""Buckets, users and locked checkpoints on a real MinIO: what each may do, and everything else tried and refused."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from minio.credentials import StaticProvider
from minio.error import MinioAdminException
from minio.minioadmin import MinioAdmin

from pipelines.adapters.database.records import SqlRecords
from pipelines.adapters.storage.checkpoints_s3 import S3Checkpoints
from pipelines.adapters.storage.minio_admin import MinioUsers
from pipelines.adapters.storage.object_store import REGION, Buckets, S3Access, connect, make_buckets, policies
from pipelines.domain.audit import GENESIS, Checkpoint, chained, verify
from pipelines.errors import DatabaseUnavailable, Refused, Undecided, UsageError
from tests.support.servers.databases import Place, bare_sqlite, sqlite_place
from tests.support.servers.object_store import MinioServer, Store

REFUSED = ("AccessDenied", "AllAccessDisabled", "MethodNotAllowed")
# What MinIO says where no right helps: the lock itself, and what follows from it.
LOCKED = ("Object is WORM protected and cannot be overwritten", "InvalidBucketState", "BucketNotEmpty")
CHECKPOINT = Checkpoint(1, "a" * 64)
KEY = "000000000001.json"

Action = Callable[[Any, str], Any]


def checkpoints_of(store: Store) -> S3Checkpoints:
    return S3Checkpoints(store.access["audit"], store.buckets.heads)


def refusal(action: Callable[[], object]) -> str:
    """Return the store's code for a no, or its message where the code says little; fail when it was a yes."""
    with pytest.raises(ClientError) as refused:
        action()
    error = refused.value.response["Error"]
    return str(error["Message"] if error["Code"] == "InvalidRequest" else error["Code"])


def put(client: Any, bucket: str, key: str = "probe", **how: object) -> Any:
    return client.put_object(Bucket=bucket, Key=key, Body=b"probe", **how)


READING: dict[str, Action] = {
    "list": lambda client, bucket: client.list_objects_v2(Bucket=bucket),
    "list versions": lambda client, bucket: client.list_object_versions(Bucket=bucket),
    "get": lambda client, bucket: client.get_object(Bucket=bucket, Key="probe"),
}
WRITING: dict[str, Action] = {
    "put": put,
    "delete": lambda client, bucket: client.delete_object(Bucket=bucket, Key="probe"),
    "delete many": lambda client, bucket: refuse_errors(
        client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "probe"}]})
    ),
    "tag": lambda client, bucket: client.put_object_tagging(
        Bucket=bucket, Key="probe", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}
    ),
}
RULING: dict[str, Action] = {
    "delete the bucket": lambda client, bucket: client.delete_bucket(Bucket=bucket),
    "make a bucket": lambda client, bucket: client.create_bucket(Bucket=f"{bucket}-new"),
    "open the bucket": lambda client, bucket: client.put_bucket_policy(Bucket=bucket, Policy=public_policy(bucket)),
    "read the policy": lambda client, bucket: client.get_bucket_policy(Bucket=bucket),
    "suspend versions": lambda client, bucket: client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
    ),
    "let objects expire": lambda client, bucket: client.put_bucket_lifecycle_configuration(
        Bucket=bucket,
        LifecycleConfiguration={
            "Rules": [{"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}]
        },
    ),
    "change the lock": lambda client, bucket: client.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled"}
    ),
}


def refuse_errors(answer: dict[str, Any]) -> None:
    for error in answer.get("Errors", []):
        raise ClientError({"Error": error}, "DeleteObjects")


def public_policy(bucket: str) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": ["s3:GetObject"],
        "Resource": [f"arn:aws:s3:::{bucket}/*"],
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.mark.parametrize("client", ["mlflow", "dvc", "audit"])
def test_a_user_has_no_way_into_the_bucket_of_another(store: Store, client: str) -> None:
    own = {"mlflow": store.buckets.artifacts, "dvc": store.buckets.dvc, "audit": store.buckets.heads}
    user, root = connect(store.access[client]), connect(store.server.root)
    for other in set(own.values()) - {own[client]}:
        put(root, other)
        for name, action in {**READING, **WRITING, **RULING}.items():
            assert refusal(lambda: action(user, other)) in REFUSED, f"{client} could {name} {other}"  # noqa: B023


@pytest.mark.parametrize("client", ["mlflow", "dvc", "audit"])
def test_a_user_does_not_rule_its_own_bucket(store: Store, client: str) -> None:
    own = {"mlflow": store.buckets.artifacts, "dvc": store.buckets.dvc, "audit": store.buckets.heads}[client]
    user = connect(store.access[client])
    put(connect(store.server.root), own)

    allowed = [name for name, action in RULING.items() if not _is_refused(lambda: action(user, own))]  # noqa: B023

    assert allowed == []


def _is_refused(action: Callable[[], object]) -> bool:
    try:
        action()
    except ClientError as error:
        return str(error.response["Error"]["Code"]) in REFUSED
    return False


def test_a_user_sees_no_other_bucket_than_its_own(store: Store) -> None:
    listed = connect(store.access["dvc"]).list_buckets()["Buckets"]

    assert [bucket["Name"] for bucket in listed] == [store.buckets.dvc]


def test_an_unknown_or_anonymous_caller_is_refused(store: Store) -> None:
    stranger = connect(replace(store.access["dvc"], secret_key="not-the-secret"))

    assert refusal(lambda: stranger.list_objects_v2(Bucket=store.buckets.dvc)) == "SignatureDoesNotMatch"
    nobody = boto3.session.Session().client(
        "s3",
        endpoint_url=store.server.root.endpoint,
        region_name=REGION,
        config=Config(signature_version=UNSIGNED, proxies={}),
    )
    for bucket in (store.buckets.artifacts, store.buckets.dvc, store.buckets.heads):
        for name, action in {**READING, **WRITING}.items():
            assert refusal(lambda: action(nobody, bucket)) in REFUSED, f"anybody could {name} {bucket}"  # noqa: B023


@pytest.mark.parametrize("client", ["mlflow", "dvc", "audit"])
def test_a_user_can_not_make_keys_that_would_outlive_its_secret(store: Store, client: str) -> None:
    access = store.access[client]
    admin = admin_of(access)

    with pytest.raises(MinioAdminException):
        admin.add_service_account(access_key="planted-key", secret_key="planted-secret")
    with pytest.raises(MinioAdminException):
        admin.user_add(access_key="planted-user", secret_key="planted-secret")
    with pytest.raises(MinioAdminException):
        admin.policy_set(policy_name="consoleAdmin", user=access.access_key)


def test_a_session_has_its_users_rights_and_ends_with_its_secret(store: Store) -> None:
    access = store.access["dvc"]
    sts = boto3.session.Session().client(
        "sts",
        endpoint_url=access.endpoint,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        region_name=REGION,
        config=Config(proxies={}),
    )
    given = sts.assume_role(RoleArn="arn:aws:iam::1:role/any", RoleSessionName="planted")["Credentials"]
    session = boto3.session.Session().client(
        "s3",
        endpoint_url=access.endpoint,
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
        region_name=REGION,
        config=Config(proxies={}),
    )
    put(session, store.buckets.dvc)
    assert refusal(lambda: put(session, store.buckets.heads)) == "AccessDenied"

    MinioUsers(store.server.root).ensure(access.access_key, "another-secret-0123", policies(store.buckets)["dvc"])

    assert refusal(lambda: put(session, store.buckets.dvc)) == "InvalidAccessKeyId"


def admin_of(access: S3Access) -> MinioAdmin:
    return MinioAdmin(
        endpoint=access.endpoint.removeprefix("http://"),
        credentials=StaticProvider(access.access_key, access.secret_key),
        secure=False,
    )


def test_mlflow_keeps_reads_lists_and_removes_artifacts(store: Store) -> None:
    client, bucket = connect(store.access["mlflow"]), store.buckets.artifacts
    large = os.urandom(11 * 1024 * 1024)
    upload = client.create_multipart_upload(Bucket=bucket, Key="large")["UploadId"]
    pieces = [large[: 6 * 1024 * 1024], large[6 * 1024 * 1024 :]]
    parts = [
        {
            "PartNumber": number,
            "ETag": client.upload_part(Bucket=bucket, Key="large", UploadId=upload, PartNumber=number, Body=piece)[
                "ETag"
            ],
        }
        for number, piece in enumerate(pieces, start=1)
    ]
    client.complete_multipart_upload(Bucket=bucket, Key="large", UploadId=upload, MultipartUpload={"Parts": parts})
    put(client, bucket, "models/model.onnx")

    assert client.get_object(Bucket=bucket, Key="large")["Body"].read() == large
    client.delete_object(Bucket=bucket, Key="large")
    assert [row["Key"] for row in client.list_objects_v2(Bucket=bucket)["Contents"]] == ["models/model.onnx"]


def test_dvc_pushes_and_pulls_but_does_not_remove(store: Store, tmp_path: Path) -> None:
    access, bucket = store.access["dvc"], store.buckets.dvc
    project = tmp_path / "project"
    project.mkdir()
    (project / "data.csv").write_text("a,b\n1,2\n")

    def dvc(*words: str) -> None:
        secrets = {"AWS_ACCESS_KEY_ID": access.access_key, "AWS_SECRET_ACCESS_KEY": access.secret_key}
        settings = {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(tmp_path / "site")}
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *words],
            cwd=project,
            env={**os.environ, **secrets, **settings},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    dvc("init", "--no-scm")
    dvc("remote", "add", "--default", "store", f"s3://{bucket}/data")
    dvc("remote", "modify", "store", "endpointurl", access.endpoint)
    dvc("add", "data.csv")
    dvc("push")
    (project / "data.csv").unlink()
    subprocess.run(["rm", "-rf", str(project / ".dvc" / "cache")], check=True)
    dvc("pull")

    assert (project / "data.csv").read_text() == "a,b\n1,2\n"
    client = connect(access)
    pushed = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert pushed
    assert refusal(lambda: client.delete_object(Bucket=bucket, Key=pushed[0]["Key"])) == "AccessDenied"


def test_making_everything_again_changes_nothing(store: Store) -> None:
    checkpoints_of(store).export(CHECKPOINT)

    make_buckets(store.server.root, store.buckets, retention_days=1)
    for client, policy in policies(store.buckets).items():
        access = store.access[client]
        MinioUsers(store.server.root).ensure(access.access_key, access.secret_key, policy)

    assert checkpoints_of(store).checkpoints() == [CHECKPOINT]


def test_a_changed_secret_holds_and_the_old_one_is_refused(store: Store) -> None:
    old = store.access["dvc"]
    put(connect(old), store.buckets.dvc)

    MinioUsers(store.server.root).ensure(old.access_key, "another-secret-0123", policies(store.buckets)["dvc"])

    assert connect(replace(old, secret_key="another-secret-0123")).get_object(Bucket=store.buckets.dvc, Key="probe")
    assert refusal(lambda: put(connect(old), store.buckets.dvc)) == "SignatureDoesNotMatch"


def test_rights_given_by_hand_are_taken_back(store: Store) -> None:
    access = store.access["dvc"]
    admin_of(store.server.root).policy_set(policy_name="readwrite", user=access.access_key)
    put(connect(access), store.buckets.artifacts)

    MinioUsers(store.server.root).ensure(access.access_key, access.secret_key, policies(store.buckets)["dvc"])

    assert refusal(lambda: put(connect(access), store.buckets.artifacts)) == "AccessDenied"


def test_heads_are_locked_for_the_days_that_were_asked_for(minio: MinioServer) -> None:
    store = Store(minio, retention_days=30)
    checkpoints_of(store).export(CHECKPOINT)
    make_buckets(minio.root, store.buckets, retention_days=2)
    checkpoints_of(store).export(Checkpoint(2, "b" * 64))
    root = connect(minio.root)

    def days(key: str) -> float:
        kept = root.get_object_retention(Bucket=store.buckets.heads, Key=key)["Retention"]
        assert kept["Mode"] == "COMPLIANCE"
        return float((kept["RetainUntilDate"] - datetime.now(UTC)) / timedelta(days=1))

    assert days(KEY) == pytest.approx(30, abs=0.01)
    assert days("000000000002.json") == pytest.approx(2, abs=0.01)


def test_a_bucket_without_a_lock_is_refused_for_checkpoints(store: Store) -> None:
    buckets = Buckets(store.buckets.artifacts, store.buckets.dvc, heads=store.buckets.dvc)

    with pytest.raises(UsageError, match="without object lock") as refused:
        make_buckets(store.server.root, buckets, retention_days=1)

    assert "another bucket" in refused.value.next


@pytest.mark.parametrize("days", [0, -1])
def test_no_time_to_keep_heads_is_refused(minio: MinioServer, days: int) -> None:
    with pytest.raises(UsageError, match=str(days)):
        make_buckets(minio.root, Buckets(), retention_days=days)


def locked(client: Any, bucket: str, version: str) -> dict[str, Callable[[], object]]:
    """Return every way to take a locked checkpoint away, or to shorten its time."""
    soon = datetime.now(UTC) + timedelta(seconds=5)
    one = {"Bucket": bucket, "Key": KEY, "VersionId": version}
    return {
        "delete it": lambda: client.delete_object(**one),
        "delete it past governance": lambda: client.delete_object(**one, BypassGovernanceRetention=True),
        "delete it among others": lambda: refuse_errors(
            client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": KEY, "VersionId": version}]})
        ),
        "shorten it": lambda: client.put_object_retention(
            **one, Retention={"Mode": "COMPLIANCE", "RetainUntilDate": soon}
        ),
        "loosen it": lambda: client.put_object_retention(
            **one,
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": soon + timedelta(days=9)},
            BypassGovernanceRetention=True,
        ),
        "free it": lambda: client.put_object_retention(**one, Retention={}, BypassGovernanceRetention=True),
        "suspend versions": lambda: client.put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Suspended"}
        ),
        "delete the bucket": lambda: client.delete_bucket(Bucket=bucket),
    }


def version_of(store: Store) -> str:
    versions = connect(store.server.root).list_object_versions(Bucket=store.buckets.heads, Prefix=KEY)["Versions"]
    return str(versions[-1]["VersionId"])


@pytest.mark.parametrize("who", ["root", "audit"])
def test_nobody_takes_a_head_away_before_its_time(store: Store, who: str) -> None:
    checkpoints_of(store).export(CHECKPOINT)
    client = connect(store.server.root if who == "root" else store.access["audit"])

    for name, action in locked(client, store.buckets.heads, version_of(store)).items():
        assert refusal(action) in (*REFUSED, *LOCKED), name
        assert checkpoints_of(store).checkpoints() == [CHECKPOINT], name


def test_only_root_lengthens_the_time_of_a_head(store: Store) -> None:
    checkpoints_of(store).export(CHECKPOINT)
    later = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=2)}
    one = {"Bucket": store.buckets.heads, "Key": KEY, "VersionId": version_of(store)}

    assert refusal(lambda: connect(store.access["audit"]).put_object_retention(**one, Retention=later)) in REFUSED
    connect(store.server.root).put_object_retention(**one, Retention=later)


def test_the_audit_user_only_adds_and_reads(store: Store) -> None:
    checkpoints_of(store).export(CHECKPOINT)
    client, bucket = connect(store.access["audit"]), store.buckets.heads
    soon = datetime.now(UTC) + timedelta(seconds=5)
    forbidden: dict[str, Callable[[], object]] = {
        "lay a delete marker": lambda: client.delete_object(Bucket=bucket, Key=KEY),
        "choose the time": lambda: put(client, bucket, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=soon),
        "choose the mode": lambda: put(client, bucket, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=soon),
        "hold it": lambda: client.put_object_legal_hold(Bucket=bucket, Key=KEY, LegalHold={"Status": "ON"}),
        "read the lock": lambda: client.get_object_retention(Bucket=bucket, Key=KEY),
        **locked(client, bucket, version_of(store)),
    }

    for name, action in forbidden.items():
        assert refusal(action) in (*REFUSED, LOCKED[0]), name
    assert checkpoints_of(store).checkpoints() == [CHECKPOINT]


def test_the_same_head_again_is_fine_and_another_one_is_refused_naming_both(store: Store) -> None:
    checkpoints = checkpoints_of(store)
    checkpoints.export(CHECKPOINT)
    checkpoints.export(CHECKPOINT)

    with pytest.raises(Refused) as refused:
        checkpoints.export(Checkpoint(1, "b" * 64))

    assert "a" * 64 in refused.value.message and "b" * 64 in refused.value.message
    assert "audit-verify" in refused.value.next
    assert checkpoints.checkpoints() == [CHECKPOINT]


def test_a_head_put_over_another_stands_beside_it(store: Store) -> None:
    checkpoints = checkpoints_of(store)
    checkpoints.export(CHECKPOINT)
    assert checkpoints.checkpoints() == [CHECKPOINT]
    forged = json.dumps({"seq": 1, "hash": "f" * 64}).encode()

    connect(store.access["audit"]).put_object(Bucket=store.buckets.heads, Key=KEY, Body=forged)

    assert checkpoints.checkpoints() == checkpoints_of(store).checkpoints() == [CHECKPOINT, Checkpoint(1, "f" * 64)]


def test_a_delete_marker_hides_no_head(store: Store) -> None:
    checkpoints_of(store).export(CHECKPOINT)

    connect(store.server.root).delete_object(Bucket=store.buckets.heads, Key=KEY)

    assert checkpoints_of(store).checkpoints() == [CHECKPOINT]


@pytest.mark.parametrize(
    ("key", "body"),
    [("note.txt", b"hello"), (KEY, b"{}"), (KEY, b'{"seq": 2, "hash": "x"}'), (KEY, b"\xff")],
    ids=["foreign", "empty", "another's", "garbage"],
)
def test_an_object_that_is_no_head_stops_with_its_name(store: Store, key: str, body: bytes) -> None:
    connect(store.access["audit"]).put_object(Bucket=store.buckets.heads, Key=key, Body=body)

    with pytest.raises(Undecided, match=key):
        checkpoints_of(store).checkpoints()


def test_more_heads_than_a_page_are_all_read_in_order(store: Store) -> None:
    checkpoints = checkpoints_of(store)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seq: checkpoints.export(Checkpoint(seq, f"{seq:064x}")), range(1, 1006)))

    assert checkpoints.checkpoints() == [Checkpoint(seq, f"{seq:064x}") for seq in range(1, 1006)]


def test_a_prefix_keeps_two_chains_apart(store: Store) -> None:
    access, bucket = store.access["audit"], store.buckets.heads
    S3Checkpoints(access, bucket, prefix="2026/").export(CHECKPOINT)
    other = S3Checkpoints(access, bucket, prefix="2027/")

    other.export(Checkpoint(1, "b" * 64))

    assert other.checkpoints() == [Checkpoint(1, "b" * 64)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return sqlite_place(tmp_path)


def write(records: SqlRecords, *subjects: str) -> None:
    for subject in subjects:
        with records.write() as transaction:
            transaction.audit("alice", "promotion", "intent", subject=subject)


def drop_triggers(place: Place) -> None:
    triggers = place.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    place.execute(*(f"DROP TRIGGER {name}" for (name,) in triggers))


def delete_the_last(place: Place, records: SqlRecords) -> None:
    drop_triggers(place)
    place.execute("DELETE FROM audit_log WHERE seq = 3")


def rewrite_the_whole_chain(place: Place, records: SqlRecords) -> None:
    drop_triggers(place)
    previous: Checkpoint | None = None
    for entry in records.audit_trail():
        forged = chained(previous, replace(entry, actor="mallory"))
        previous = Checkpoint(forged.seq, forged.hash)
        place.execute(
            f"UPDATE audit_log SET actor = 'mallory', prev_hash = '{forged.prev_hash}', hash = '{forged.hash}' "
            f"WHERE seq = {forged.seq}"
        )
    assert next(records.audit_trail()).prev_hash == GENESIS
    assert verify(records.audit_trail(), []).valid


@pytest.mark.parametrize(("tamper", "first_bad"), [(delete_the_last, 3), (rewrite_the_whole_chain, 1)])
def test_tampering_is_found_against_the_heads_in_the_store(
    store: Store, place: Place, tamper: Callable[[Place, SqlRecords], None], first_bad: int
) -> None:
    records = SqlRecords(place.url, checkpoints_of(store))
    try:
        write(records, "p-1", "p-2", "p-3")
        assert verify(records.audit_trail(), checkpoints_of(store).checkpoints()).valid

        tamper(place, records)

        checked = verify(records.audit_trail(), checkpoints_of(store).checkpoints())
        assert (checked.valid, checked.first_bad) == (False, first_bad), checked.detail
    finally:
        records.close()


def test_a_rewritten_chain_is_found_even_when_its_heads_are_put_over_the_true_ones(store: Store, place: Place) -> None:
    records = SqlRecords(place.url, checkpoints_of(store))
    try:
        write(records, "p-1", "p-2")
        rewrite_the_whole_chain(place, records)
        for entry in records.audit_trail():
            body = json.dumps({"seq": entry.seq, "hash": entry.hash}).encode()
            connect(store.access["audit"]).put_object(
                Bucket=store.buckets.heads, Key=f"{entry.seq:012d}.json", Body=body
            )

        assert not verify(records.audit_trail(), checkpoints_of(store).checkpoints()).valid
    finally:
        records.close()


def test_a_restored_old_backup_is_refused_at_its_first_write(store: Store, place: Place, tmp_path: Path) -> None:
    records = SqlRecords(place.url, checkpoints_of(store))
    write(records, "p-1", "p-2")
    records.close()
    restored = bare_sqlite(tmp_path / "restored")
    restored.checkpoints_file.parent.mkdir()
    records = SqlRecords(restored.url, checkpoints_of(store))
    try:
        with pytest.raises(Refused, match="put back to an older state"):
            write(records, "other")
    finally:
        records.close()


def test_a_store_that_is_away_says_that_heads_can_not_be_kept(store: Store, place: Place) -> None:
    records = SqlRecords(place.url, checkpoints_of(store))
    write(records, "p-1")
    try:
        with store.server.away():
            began = time.monotonic()
            with pytest.raises(DatabaseUnavailable, match=r"recorded, but the checkpoint 2 could not be kept"):
                write(records, "p-2")
            with pytest.raises(DatabaseUnavailable, match="checkpoints could not be read"):
                checkpoints_of(store).checkpoints()
            with pytest.raises(Undecided, match="does not answer"):
                make_buckets(store.server.root, store.buckets, retention_days=1)
            with pytest.raises(Undecided, match="does not answer"):
                MinioUsers(store.server.root).ensure("someone", "some-secret-0123", policies(store.buckets)["dvc"])
            assert time.monotonic() - began < 20
        write(records, "p-3")
        assert [checkpoint.seq for checkpoint in checkpoints_of(store).checkpoints()] == [1, 3]
        assert verify(records.audit_trail(), checkpoints_of(store).checkpoints()).valid
    finally:
        records.close()


def test_a_store_that_hangs_is_given_up_in_bounded_time(store: Store) -> None:
    checkpoints = checkpoints_of(store)
    checkpoints.export(CHECKPOINT)
    with store.server.frozen():
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable, match="could not be kept"):
            checkpoints.export(Checkpoint(2, "b" * 64))
        assert time.monotonic() - began < 20

    checkpoints.export(Checkpoint(2, "b" * 64))
    assert [checkpoint.seq for checkpoint in checkpoints.checkpoints()] == [1, 2]


def test_wrong_credentials_are_named_as_such(store: Store) -> None:
    wrong = replace(store.server.root, secret_key="not-the-secret")

    with pytest.raises(UsageError, match="refuses"):
        make_buckets(wrong, store.buckets, retention_days=1)
    with pytest.raises(UsageError, match="refuses"):
        MinioUsers(wrong).ensure("someone", "some-secret-0123", policies(store.buckets)["dvc"])
    with pytest.raises(DatabaseUnavailable, match="could not be kept"):
        S3Checkpoints(replace(store.access["audit"], secret_key="not-the-secret"), store.buckets.heads).export(
            CHECKPOINT
        )


def test_a_secret_is_not_shown() -> None:
    assert "canary" not in repr(S3Access("http://127.0.0.1:9000", "dvc", "canary-secret"))
