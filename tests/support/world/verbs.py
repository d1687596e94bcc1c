"""`python -m MODULE` for tests, each time as a process of its own that has most of its libraries already.

A server that has imported them once forks these processes: what a verb takes is mostly its imports.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_PRELOADED = (
    "loadtests.run",
    "pipelines.cli",
    "pipelines.api.client",
    "pipelines.operator.doctor",
    "pipelines.operator.up",
    "pipelines.wiring.local",
)
_REGISTRATION = "pipelines.adapters.mlflow.training_run"
_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(list(_PRELOADED))


def expect_registrations() -> None:
    """Import what registers versions as well, which takes seconds: before the first run."""
    _FORKING.set_forkserver_preload([*_PRELOADED, _REGISTRATION])


def run_module(
    module: str, arguments: Sequence[str], *, cwd: Path, environ: Mapping[str, str], timeout_s: float
) -> "subprocess.CompletedProcess[str]":
    """Run a module to its end with nothing to read, and return its exit code and all that it wrote."""
    command = [module, *arguments]
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "out", Path(folder) / "err"
        process = _FORKING.Process(target=_run, args=(command, cwd, dict(environ), written))
        process.start()
        process.join(timeout_s)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout_s, *(file.read_bytes() for file in written))
        return subprocess.CompletedProcess(command, process.exitcode, *(file.read_text() for file in written))


def _run(command: list[str], cwd: Path, environ: dict[str, str], written: tuple[Path, Path]) -> None:
    for fd, file in enumerate((Path(os.devnull), *written)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), fd)
    os.environ.clear()
    os.environ.update(environ)
    os.chdir(cwd)
    sys.argv = command
    try:
        runpy.run_module(command[0], run_name="__main__", alter_sys=True)
    finally:
        # multiprocessing ends its processes without these.
        atexit._run_exitfuncs()
