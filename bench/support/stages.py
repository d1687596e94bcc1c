"""Runs a module of Slipway as a process of its own, and waits for its end."""

import subprocess
import sys
from collections.abc import Mapping

from bench.support.place import Place
from pipelines.errors import SlipwayError


def run_module(place: Place, module: str, *arguments: str, environ: Mapping[str, str], within_s: float) -> str:
    """Return what a module writes to stdout, given some of the environment; raise SlipwayError where it ends badly."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=place.settings.root,
        env={**place.child_environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stderr.splitlines()[-5:])
        raise SlipwayError(f"{module} ended with {done.returncode}: {tail}", next="fix what it names")
    return done.stdout
