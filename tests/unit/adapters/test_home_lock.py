"""One process at a time changes an installation, and the next is told who."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.adapters.home_lock import held, is_held
from pipelines.errors import Refused

HOLD = """
import sys, time
from pathlib import Path
from pipelines.adapters.home_lock import held
with held(Path(sys.argv[1]), "up"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_one_is_told_the_holder_and_a_killed_holder_lets_go(tmp_path: Path) -> None:
    lock = tmp_path / "home" / "lock"
    assert is_held(lock) is None
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout and holder.stdout.readline() == "held\n"
    try:
        with pytest.raises(Refused, match=f"being changed: up by process {holder.pid} since"), held(lock, "down"):
            pass
        assert is_held(lock) is True
    finally:
        holder.kill()
        holder.communicate()
    assert is_held(lock) is False
    with held(lock, "down"):
        assert f"down by process {os.getpid()}" in lock.read_text()
