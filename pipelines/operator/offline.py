"""Prepares a closed network: runs infra/offline, which makes what can't be pulled there."""

import subprocess
import sys
from collections.abc import Mapping

from pipelines.errors import Undecided, UsageError
from pipelines.settings.settings import ROOT

_REFUSED = 2


def prepare_offline(part: str, environ: Mapping[str, str]) -> None:
    """Make what can't be pulled on a closed network; raise UsageError or Undecided with its exit code."""
    command = [sys.executable, str(ROOT / "infra" / "offline" / "prepare.py"), part]
    ended = subprocess.run(command, cwd=ROOT, env=dict(environ), stdin=subprocess.DEVNULL, check=False).returncode
    if ended == _REFUSED:
        raise UsageError(f"offline {part} was refused", next="do what is named above")
    if ended != 0:
        raise Undecided(f"offline {part} ended with {ended}", next="fix what is named above, then run it again")
