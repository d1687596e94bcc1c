"""Wires the operator's load runs from this machine, which need no installation beside the service they load."""

import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager

from pipelines.adapters.home_lock import held
from pipelines.adapters.load.process import launched
from pipelines.settings.settings import Settings


def launch_load(arguments: Sequence[str], settings: Settings) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    """Run `loadtests.run` with its progress on a pipe; when the block ends, nothing of it is left."""
    return launched(arguments, root=settings.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def hold_load_runs(settings: Settings) -> AbstractContextManager[None]:
    """Let no second load run of this home begin in the target; raise Refused with who runs one."""
    return held(settings.home / "loadtest.lock", "loadtest")
