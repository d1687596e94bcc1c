"""Trains a version in a working tree and registers it, each as a process of its own with the trainer's rights."""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from pipelines.errors import RegistryUnavailable, SlipwayError, Undecided, UsageError
from pipelines.settings.settings import Settings
from pipelines.training.lineage import drop_spoiled
from pipelines.training.model_file import ModelFile
from pipelines.training.workspace import STAGE_ENVIRON

ProgressReporter = Callable[[str], None]
TRAINING_S = 900.0
# DVC itself ends with another code than the stage that it ran.
_STAGE_ENDED = re.compile(r"failed to run: .*, exited with (\d+)")


def train_and_register(
    settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter
) -> dict[str, str]:
    """Run `dvc repro` in the project and register its result; return run_id, accuracy, model_version."""
    from pipelines.wiring.targets import open_installation

    # DVC reads it as well, and without bounds.
    ModelFile.load(settings.project / "model.yaml")
    path = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}"
    trainer = open_installation(settings, environ).trainer()
    child = {**STAGE_ENVIRON, **settings.child_environ(environ), **trainer, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    for dropped in drop_spoiled(settings.project):
        report_progress(f"{dropped} was not what dvc.lock names: removed, to be made anew")
    _run([sys.executable, "-m", "dvc", "repro"], settings.project, child, report_progress)
    command = [sys.executable, "-m", "pipelines.wiring.register"]
    command += ["--tracking-uri", settings.mlflow_url, "--root", str(settings.project)]
    registered: dict[str, str] = json.loads(_run(command, settings.project, child, report_progress).splitlines()[-1])
    return registered


def _run(command: list[str], cwd: Path, environ: Mapping[str, str], report_progress: ProgressReporter) -> str:
    """Run a command, passing its standard error on as it comes, and return its output; raise its refusal."""
    what = " ".join(command[2:4])
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        late = threading.Timer(TRAINING_S, process.kill)
        # Whoever leaves it by Ctrl-C does not wait for it.
        late.daemon = True
        late.start()
        code: int | None = None
        assert process.stderr is not None
        for line in process.stderr:
            report_progress(line.rstrip())
            if ended := _STAGE_ENDED.search(line):
                code = int(ended[1])
        process.wait()
        if not late.is_alive():
            raise Undecided(f"{what} took more than {TRAINING_S:g} s", next="run it by hand")
        late.cancel()
        output.seek(0)
        told = output.read()
    if process.returncode == 0:
        return told
    for line in told.splitlines()[-15:]:
        report_progress(line)
    raise _refusal(what, code or process.returncode)


def _refusal(what: str, code: int) -> SlipwayError:
    if code == RegistryUnavailable.exit_code:
        return RegistryUnavailable(f"{what} ended with {code}", next='run "make up", then again; nothing was changed')
    if code == UsageError.exit_code:
        return UsageError(f"{what} was refused", next="fix what is named above")
    return SlipwayError(f"{what} ended with {code}", next="fix what is named above")
