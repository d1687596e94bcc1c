"""A data cache that no longer holds what its names say."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.faults.grounds import Grounds
from bench.faults.scenario import Scenario, expect
from pipelines.errors import UsageError
from pipelines.training.lineage import drop_spoiled

TRAINING_S = 300.0


def cache_corrupted(grounds: Grounds) -> str:
    """Spoil every cached file: what DVC then takes for good is neither registered nor trained on."""
    tree = grounds.slipway.home.parent / "spoiled-tree"
    shutil.copytree(grounds.slipway.tree, tree, symlinks=True)
    wanted = _hashes(tree)
    cached = [path for path in (tree / ".dvc/cache/files/md5").rglob("*") if path.is_file()]
    expect(bool(wanted and cached), "there is no data cache to spoil")
    for path in cached:
        _spoil(path)
    for name in wanted:
        (tree / "data/snapshots" / name).unlink()
    _run(grounds, tree, "-m", "dvc", "repro", "-q")
    url = grounds.slipway.settings.mlflow_url
    registered = _run(grounds, tree, "-m", "pipelines.wiring.register", "--tracking-uri", url, "--root", str(tree))
    expect(registered.returncode == UsageError.exit_code, f"it was registered: {registered.stdout}")
    # As `make candidate` begins.
    dropped = drop_spoiled(tree)
    made = _run(grounds, tree, "-m", "dvc", "repro", "-q")
    expect(made.returncode == 0, f"it could not be made anew: {made.stderr[-300:]}")
    found = _hashes(tree)
    wrong = [name for name in wanted if found.get(name) != wanted[name]]
    expect(not wrong, f"trained with {', '.join(wrong)} under the recorded lineage")
    shutil.rmtree(tree)
    return f"{len(cached)} files spoiled: not registered; {len(dropped)} dropped and made anew, to the same bytes"


def _spoil(path: Path) -> None:
    content = path.read_bytes()
    os.chmod(path, 0o644)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.chmod(path, 0o444)


def _run(grounds: Grounds, tree: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environ = {**grounds.slipway.environ, "DVC_NO_ANALYTICS": "1"}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}"
    return subprocess.run(
        [sys.executable, *words],
        cwd=tree, env=environ, capture_output=True, text=True, timeout=TRAINING_S, check=False,
    )  # fmt: skip


def _hashes(tree: Path) -> dict[str, str]:
    files = (tree / "data/snapshots").glob("*.parquet")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


SCENARIOS = (Scenario("data cache corrupted", cache_corrupted),)
