"""Trains a version in a working tree and registers it, each as a process of its own with the trainer's rights."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pipelines.errors import RegistryUnavailable, SlipwayError, Undecided, UsageError
from pipelines.settings.settings import Settings
from pipelines.training.lineage import drop_spoiled
from pipelines.training.model_file import ModelFile

ProgressReporter = Callable[[str], None]
TRAINING_S = 900.0


def train_and_register(
    settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter
) -> dict[str, str]:
    """Run `dvc repro` in the project and register its result; return run_id, accuracy, model_version."""
    from pipelines.wiring.targets import open_installation

    # DVC reads it as well, and without bounds.
    ModelFile.load(settings.project / "model.yaml")
    path = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}"
    trainer = open_installation(settings, environ).trainer()
    child = {**settings.child_environ(environ), **trainer, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    for dropped in drop_spoiled(settings.project):
        report_progress(f"{dropped} was not what dvc.lock names: removed, to be made anew")
    _run([sys.executable, "-m", "dvc", "repro"], settings.project, child, report_progress)
    command = [sys.executable, "-m", "pipelines.wiring.register"]
    command += ["--tracking-uri", settings.mlflow_url, "--root", str(settings.project)]
    registered: dict[str, str] = json.loads(_run(command, settings.project, child, report_progress).splitlines()[-1])
    return registered


def _run(command: list[str], cwd: Path, environ: Mapping[str, str], report_progress: ProgressReporter) -> str:
    """Run a command, passing its standard error on, and return its output; raise its refusal."""
    process = subprocess.Popen(
        command, cwd=cwd, env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    try:
        output, _ = process.communicate(timeout=TRAINING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Undecided(f"{' '.join(command[1:4])} took more than {TRAINING_S:g} s", next="run it by hand") from None
    if process.returncode == 0:
        return output
    for line in output.splitlines()[-15:]:
        report_progress(line)
    what = f"{' '.join(command[1:4])} ended with {process.returncode}"
    if process.returncode == RegistryUnavailable.exit_code:
        raise RegistryUnavailable(what, next='run "make up", then again; nothing was changed')
    if process.returncode == UsageError.exit_code:
        raise UsageError(what, next="fix what it names above")
    raise SlipwayError(what, next="fix what it names above")
