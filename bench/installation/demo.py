"""How long the demonstration takes from a fresh clone, with the packages in the cache, and a backup of its home."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place
from pipelines.errors import SlipwayError
from pipelines.wiring.targets import open_installation

WITHIN_S = 1200.0


def measure(place: Place) -> Measured:
    """Clone the project's last commit, run `make setup` and `make demo` there, then back up and restore its home."""
    clone = place.workdir / "clone"
    _run(place, ["git", "clone", "--quiet", str(place.settings.project), str(clone)], place.workdir)
    own = dataclasses.replace(place, settings=dataclasses.replace(place.settings, project=clone))
    with _stopped_afterwards(own):
        setup_s = _run(own, ["make", "setup", f"PYTHON={sys.executable}"], clone)
        place.report_progress(f"make setup took {setup_s:.1f} s")
        demo_s = _run(own, ["make", "demo", f"PYTHON={sys.executable}"], clone)
        place.report_progress(f"make demo took {demo_s:.1f} s")
        backup = place.workdir / "backup"
        backup_s = _run(own, ["make", "backup", f"FILE={backup}", f"PYTHON={sys.executable}"], clone)
        restored = {"SLIPWAY_HOME": str(place.workdir / "restored")}
        restore_s = _run(own, ["make", "restore", f"FILE={backup}", f"PYTHON={sys.executable}"], clone, restored)
    return Measured(
        about="make setup and make demo in a fresh clone of the last commit, packages in the cache as they are; then"
        " make backup while all of it runs, and make restore into another home",
        figures={
            "setup_s": setup_s,
            "demo_s": demo_s,
            "total_s": setup_s + demo_s,
            "backup_s": backup_s,
            "backup_mb": backup.stat().st_size / 1e6,
            "restore_s": restore_s,
        },
        limits=(
            Limit("total_s", Bound.AT_MOST, 240),
            Limit("backup_s", Bound.AT_MOST, 30),
            Limit("restore_s", Bound.AT_MOST, 30),
        ),
    )


@contextmanager
def _stopped_afterwards(place: Place) -> Iterator[None]:
    """Stop what the demonstration leaves running, however it ended."""
    try:
        yield
    finally:
        open_installation(place.settings, place.environ).down(place.report_progress)


def _run(place: Place, command: list[str], where: Path, environ: Mapping[str, str] | None = None) -> float:
    """Run a command, its output on standard error, and return its seconds; end its session when cut off."""
    begun = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=where,
        env={**place.child_environ, **(environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        start_new_session=True,
    )
    try:
        ended = process.wait(WITHIN_S)
    except subprocess.TimeoutExpired:
        raise SlipwayError(f"{' '.join(command[:2])} took more than {WITHIN_S:g} s") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if ended != 0:
        raise SlipwayError(f"{' '.join(command[:2])} ended with {ended}", next="fix what it names above")
    return time.monotonic() - begun
