"""A data cache that no longer holds what its names say."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.faults.grounds import Grounds
from bench.faults.scenario import Scenario, expect

TRAINING_S = 300.0


def cache_corrupted(grounds: Grounds) -> str:
    """Spoil every cached file: training takes none for the one that its lineage names."""
    tree = grounds.slipway.home.parent / "spoiled-tree"
    shutil.copytree(grounds.slipway.tree, tree, symlinks=True)
    wanted = _hashes(tree)
    snapshots = sorted((tree / "data/snapshots").glob("*.parquet"))
    cached = sorted(path for path in (tree / ".dvc/cache/files/md5").rglob("*") if path.is_file())
    expect(bool(snapshots and cached), "there is no data cache to spoil")
    for path in cached:
        content = path.read_bytes()
        os.chmod(path, 0o644)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.chmod(path, 0o444)
    for path in snapshots:
        path.unlink()
    environ = {**grounds.slipway.environ, "DVC_NO_ANALYTICS": "1"}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=tree, env=environ, capture_output=True, text=True, timeout=TRAINING_S, check=False,
    )  # fmt: skip
    found = _hashes(tree)
    wrong = [name for name in wanted if name in found and found[name] != wanted[name]]
    expect(done.returncode != 0 or not wrong, f"trained with {', '.join(wrong)} under the recorded lineage")
    shutil.rmtree(tree)
    if done.returncode == 0:
        return f"{len(cached)} files of the cache spoiled: all was made anew, to the same bytes"
    return f"{len(cached)} files of the cache spoiled: refused, {done.stderr.strip().splitlines()[-1][:120]}"


def _hashes(tree: Path) -> dict[str, str]:
    files = (tree / "data/snapshots").glob("*.parquet")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


SCENARIOS = (Scenario("data cache corrupted", cache_corrupted),)
