"""DVC's data in the object store of an installation, of which DVC is told from outside of the working tree.

DVC reads where its remotes are from files of four ranks. This writes one of the lowest rank, the machine's, into the
home, and gives the secrets to one process of DVC's in its environment: no file of the project changes.
"""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pipelines.adapters.storage.object_store import ATTEMPTS, S3Access, answered, connect
from pipelines.errors import Undecided, UsageError

REMOTE = "slipway"
MOVE_S = 3600.0
_REMOTE = ("--remote", REMOTE)
_CONFIG = """['remote "{remote}"']
    url = s3://{bucket}
    endpointurl = {endpoint}
    region = {region}
    connect_timeout = 5
    read_timeout = 30
"""


class DvcRemote:
    """The bucket of DVC's data; `directory` is where DVC is told of it."""

    def __init__(self, access: S3Access, bucket: str, directory: Path) -> None:
        self._access = access
        self._bucket = bucket
        self._directory = directory

    def push(self, project: Path, environ: Mapping[str, str]) -> str:
        """Put what the project's dvc.lock names into the object store; return what DVC says of it.

        Raises Undecided when the object store does not answer or goes away, UsageError when it refuses, or when a file
        is neither there nor here.
        """
        child = self._prepared(project, environ)
        return self._moved(["push", *_REMOTE], project, child)

    def pull(self, project: Path, environ: Mapping[str, str]) -> str:
        """Fetch what the project's dvc.lock names, and only when all of it is here touch the project's files.

        Raises as `push` does, and UsageError when a file was changed by hand, which is kept.
        """
        child = self._prepared(project, environ)
        fetched = self._moved(["fetch", *_REMOTE], project, child)
        placed = _run(["checkout"], project, child)
        if placed.returncode != 0:
            raise UsageError("what was fetched can't take its place", next="fix what dvc names above")
        return f"{fetched}\n{placed.stdout}".strip()

    def _prepared(self, project: Path, environ: Mapping[str, str]) -> dict[str, str]:
        """Make sure that nothing stands against moving data; return the environment for DVC."""
        with answered(self._access.endpoint):
            connect(self._access).list_objects_v2(Bucket=self._bucket, MaxKeys=1)
        child = self._told(environ)
        status = _run(["status", "--json", *_REMOTE], project, child)
        if status.returncode != 0:
            raise UsageError(f"dvc can't read {project}", next="fix what it names above")
        missing = sorted(name for name, place in json.loads(status.stdout).items() if place == "missing")
        if missing:
            # DVC itself would warn, and call it a success.
            raise UsageError(
                f"neither here nor in the object store: {', '.join(missing)}",
                next='"make candidate" makes them here; or "make data-push" where they were made',
            )
        return child

    def _told(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Write DVC's file; return the environment in which DVC finds it, and no login but its own."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._directory / "config").write_text(
            _CONFIG.format(
                remote=REMOTE, bucket=self._bucket, endpoint=self._access.endpoint, region=self._access.region
            )
        )
        # An empty file, so that no profile of this machine's users has a say; what is no file is refused.
        (nothing := self._directory / "nothing").touch()
        authority = {"AWS_CA_BUNDLE": str(self._access.authority)} if self._access.authority else {}
        return {
            **{name: value for name, value in environ.items() if not name.startswith("AWS_")},
            **authority,
            "AWS_ACCESS_KEY_ID": self._access.access_key,
            "AWS_CONFIG_FILE": str(nothing),
            "AWS_MAX_ATTEMPTS": str(ATTEMPTS),
            "AWS_SECRET_ACCESS_KEY": self._access.secret_key,
            "AWS_SHARED_CREDENTIALS_FILE": str(nothing),
            "DVC_NO_ANALYTICS": "1",
            "DVC_SYSTEM_CONFIG_DIR": str(self._directory),
        }

    def _moved(self, words: list[str], project: Path, child: Mapping[str, str]) -> str:
        done = _run(words, project, child)
        if done.returncode != 0:
            raise Undecided(
                f"dvc {words[0]} with the object store at {self._access.endpoint} did not finish",
                next="fix what it names above, then do it again: what has arrived is not moved twice",
            )
        return done.stdout.strip()


def _run(words: list[str], project: Path, child: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run DVC, which writes what goes wrong to this process's standard error."""
    try:
        return subprocess.run(
            [sys.executable, "-m", "dvc", *words],
            cwd=project,
            env=dict(child),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=MOVE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Undecided(f"dvc {words[0]} took more than {MOVE_S:g} s", next="do it again; it goes on") from None
