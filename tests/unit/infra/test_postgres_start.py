"""What the start of the PostgreSQL image refuses before it touches anything."""

import os
import subprocess
from pathlib import Path

import pytest

from pipelines.settings.settings import ROOT

START = ROOT / "infra" / "images" / "postgres" / "start"


@pytest.mark.parametrize("said", ["postgres (PostgreSQL) 17.2 (Debian 17.2-1)", "postgres (PostgreSQL) 17rc1"])
def test_files_of_another_major_version_are_refused_with_both_and_the_way(tmp_path: Path, said: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "PG_VERSION").write_text("15\n")
    server = tmp_path / "postgres"
    server.write_text(f"#!/bin/sh\necho '{said}'\n")
    server.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PGDATA": str(data)}

    ended = subprocess.run(["bash", str(START)], env=environ, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert f"{data} was written by PostgreSQL 15, this is PostgreSQL 17: make a backup" in ended.stderr
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]
