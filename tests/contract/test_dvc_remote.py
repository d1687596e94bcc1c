"""Data on its way between two clones of a project through a real MinIO, and what must not become of it on the way."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.storage.dvc_remote import DvcRemote
from pipelines.adapters.storage.object_store import S3Access, connect
from pipelines.errors import Undecided, UsageError
from tests.support.servers.cutting_proxy import Cut, cutting_proxy
from tests.support.servers.object_store import Store

pytestmark = pytest.mark.timeout(240)

PIPELINE = """
stages:
  make:
    cmd: mkdir parts && echo one > parts/1 && echo two > parts/2 && echo COMMIT > whole
    outs: [parts, whole]
"""
MADE = {"parts/1": "one\n", "parts/2": "two\n", "whole": "COMMIT\n"}
# What an operator's shell may hold of other stores.
ELSEWHERE = {"AWS_PROFILE": "nobody", "AWS_ACCESS_KEY_ID": "other", "AWS_SESSION_TOKEN": "x", "AWS_REGION": "mars"}


def run(*words: str, cwd: Path) -> str:
    env = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    return subprocess.run(words, cwd=cwd, env=env, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose data was made, with its cache, and no remote in any committed file."""
    made = tmp_path_factory.mktemp("origin")
    run("git", "init", "--quiet", cwd=made)
    run(sys.executable, "-m", "dvc", "init", "--quiet", cwd=made)
    (made / "dvc.yaml").write_text(PIPELINE)
    run(sys.executable, "-m", "dvc", "repro", "--quiet", cwd=made)
    run("git", "add", ".", cwd=made)
    run("git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "made", cwd=made)
    return made


@pytest.fixture
def clone(origin: Path, tmp_path: Path) -> Path:
    """A fresh clone of the project: without its data."""
    run("git", "clone", "--quiet", str(origin), "clone", cwd=tmp_path)
    return tmp_path / "clone"


@pytest.fixture
def remote(store: Store, tmp_path: Path) -> DvcRemote:
    return DvcRemote(store.access["dvc"], store.buckets.dvc, tmp_path / "home" / "dvc")


def environ() -> dict[str, str]:
    return {**os.environ, **ELSEWHERE}


def data_in(project: Path) -> dict[str, str]:
    """What is there of the project's data."""
    return {name: (project / name).read_text() for name in MADE if (project / name).exists()}


def keys(store: Store) -> set[str]:
    listed: dict[str, Any] = connect(store.server.root).list_objects_v2(Bucket=store.buckets.dvc)
    return {each["Key"] for each in listed.get("Contents", [])}


def empty(store: Store) -> None:
    """Take the objects away, as whoever removes the store does."""
    for key in keys(store):
        connect(store.server.root).delete_object(Bucket=store.buckets.dvc, Key=key)


def test_data_pushed_from_one_clone_is_pulled_in_another(
    store: Store, remote: DvcRemote, origin: Path, clone: Path
) -> None:
    assert remote.push(origin, environ()) == "4 files pushed"
    assert len(keys(store)) == 4
    assert data_in(clone) == {}
    told = remote.pull(clone, environ()).splitlines()
    assert [line.split()[-1] for line in told] == ["fetched", "parts/", "whole"]
    assert data_in(clone) == MADE
    assert run("git", "status", "--porcelain", cwd=clone) == run("git", "status", "--porcelain", cwd=origin) == ""
    assert remote.push(origin, environ()) == "Everything is up to date."


def test_a_store_that_was_made_anew_is_filled_again(store: Store, remote: DvcRemote, origin: Path, clone: Path) -> None:
    remote.push(origin, environ())
    empty(store)
    assert remote.push(origin, environ()) == "4 files pushed"
    remote.pull(clone, environ())
    assert data_in(clone) == MADE


def test_nothing_secret_is_written_to_a_file(store: Store, remote: DvcRemote, origin: Path, tmp_path: Path) -> None:
    remote.push(origin, environ())
    files = [path for place in (origin, tmp_path) for path in place.rglob("*") if path.is_file()]
    assert tmp_path / "home" / "dvc" / "config" in files
    assert [path for path in files if store.access["dvc"].secret_key in path.read_text(errors="replace")] == []


def test_a_store_that_is_away_is_said_and_nothing_changes(
    store: Store, remote: DvcRemote, origin: Path, clone: Path
) -> None:
    remote.push(origin, environ())
    with store.server.away():
        for move, project in [(remote.push, origin), (remote.pull, clone)]:
            with pytest.raises(Undecided, match=f"{store.server.root.endpoint} does not answer"):
                move(project, environ())
    assert (data_in(origin), data_in(clone)) == (MADE, {})
    remote.pull(clone, environ())
    assert data_in(clone) == MADE


def test_a_frozen_store_is_given_up(store: Store, remote: DvcRemote, clone: Path) -> None:
    with store.server.frozen(), pytest.raises(Undecided, match="does not answer"):
        remote.pull(clone, environ())
    assert data_in(clone) == {}


def test_a_push_that_is_cut_short_is_said_and_goes_on_later(store: Store, origin: Path, tmp_path: Path) -> None:
    with cutting_proxy(store.server.port) as proxy:
        near = replace(store.access["dvc"], endpoint=f"http://127.0.0.1:{proxy.port}")
        remote = DvcRemote(near, store.buckets.dvc, tmp_path / "dvc")
        proxy.cut = Cut.BEFORE_COMMIT
        with pytest.raises(Undecided, match=r"dvc push with the object store at .* did not finish"):
            remote.push(origin, environ())
        assert len(keys(store)) == 3
        proxy.cut = Cut.NOT
        assert remote.push(origin, environ()) == "1 file pushed"


def test_a_pull_of_what_the_store_lacks_names_it_and_takes_nothing(
    store: Store, remote: DvcRemote, origin: Path, clone: Path
) -> None:
    remote.push(origin, environ())
    digest = hashlib.md5(MADE["whole"].encode(), usedforsecurity=False).hexdigest()
    connect(store.server.root).delete_object(Bucket=store.buckets.dvc, Key=f"files/md5/{digest[:2]}/{digest[2:]}")
    assert len(keys(store)) == 3
    with pytest.raises(UsageError, match=r"neither here nor in the object store: whole$") as refused:
        remote.pull(clone, environ())
    assert "make data-push" in refused.value.next
    assert data_in(clone) == {}


def test_a_push_of_what_was_never_made_is_no_success(store: Store, remote: DvcRemote, clone: Path) -> None:
    with pytest.raises(UsageError, match=r"neither here nor in the object store: .*whole"):
        remote.push(clone, environ())
    assert keys(store) == set()


def test_a_file_that_was_changed_by_hand_is_kept(store: Store, remote: DvcRemote, origin: Path, clone: Path) -> None:
    remote.push(origin, environ())
    (clone / "whole").write_text("mine")
    with pytest.raises(UsageError, match="can't take its place"):
        remote.pull(clone, environ())
    assert (clone / "whole").read_text() == "mine"


def test_a_secret_that_no_longer_holds_is_said(store: Store, origin: Path, tmp_path: Path) -> None:
    former = S3Access(store.server.root.endpoint, store.access["dvc"].access_key, "former-secret")
    with pytest.raises(UsageError, match="refuses") as refused:
        DvcRemote(former, store.buckets.dvc, tmp_path / "dvc").push(origin, environ())
    assert "former-secret" not in repr(refused.value)


def test_a_directory_that_is_no_project_is_refused(remote: DvcRemote, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dvc can't read"):
        remote.push(tmp_path, environ())
