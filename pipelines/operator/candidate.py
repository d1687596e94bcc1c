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

from pipelines.documents import DocumentError, parse_json
from pipelines.errors import DeployFailed, Refused, SlipwayError, Undecided, UsageError
from pipelines.settings.settings import Settings
from pipelines.training.lineage import drop_spoiled
from pipelines.training.model_file import ModelFile
from pipelines.training.repositories import refuse_unversioned
from pipelines.training.workspace import REFUSAL_FILE, STAGE_ENVIRON

ProgressReporter = Callable[[str], None]
TRAINING_S = 900.0
# DVC itself ends with another code than the stage that it ran.
_STAGE_ENDED = re.compile(r"failed to run: .*, exited with (-?\d+)")
_KINDS = {kind.exit_code: kind for kind in (UsageError, Refused, Undecided, DeployFailed)}


def train_and_register(
    settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter, *, project: Path | None = None
) -> dict[str, str]:
    """Run `dvc repro` in a project and register its result; return run_id, accuracy, model_version.

    The project is that of the installation's default model where none is given. Raises UsageError where it is in no
    git repository with a commit or in no DVC project, and what a stage refuses.
    """
    from pipelines.wiring.targets import open_installation

    project = project or settings.project
    # DVC reads it as well, and without bounds.
    source = ModelFile.load(project / "model.yaml").source.path
    _refuse_untrainable(project)
    path = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}"
    trainer = open_installation(settings, environ).trainer()
    child = {**STAGE_ENVIRON, **settings.child_environ(environ), **trainer, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    for dropped in drop_spoiled(project):
        report_progress(f"{dropped} was not what dvc.lock names: removed, to be made anew")
    if not (project / source).exists():
        _pull(project, source, child, report_progress)
    run_child([sys.executable, "-m", "dvc", "repro"], project, child, report_progress)
    command = [sys.executable, "-m", "pipelines.wiring.register"]
    command += ["--tracking-uri", settings.mlflow_url, "--root", str(project)]
    registered: dict[str, str] = json.loads(run_child(command, project, child, report_progress).splitlines()[-1])
    return registered


def _refuse_untrainable(project: Path) -> None:
    if not (project / "dvc.yaml").is_file():
        raise UsageError(
            f"{project} has no dvc.yaml, the stages of its training",
            next='have one written: "slipway model init FILE --target COLUMN --project FOLDER"',
        )
    refuse_unversioned(project)


def _pull(project: Path, source: str, child: Mapping[str, str], report_progress: ProgressReporter) -> None:
    """Fetch the source from the DVC remote of the project; raise UsageError where DVC does not keep it."""
    kept = f"{source}.dvc"
    if not (project / kept).is_file():
        raise UsageError(
            f"{source}, the source that model.yaml names, is not there, and neither is {kept}",
            next="restore it, or correct source.path",
        )
    report_progress(f"{source} is not here: dvc pull {kept}")
    run_child([sys.executable, "-m", "dvc", "pull", kept], project, child, report_progress)


def run_child(command: list[str], cwd: Path, environ: Mapping[str, str], report_progress: ProgressReporter) -> str:
    """Run a command, passing its standard error on as it comes, and return its output; raise its refusal."""
    what = " ".join(command[2:4])
    with (
        tempfile.TemporaryDirectory() as place,
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(
            command,
            cwd=cwd,
            env={**environ, REFUSAL_FILE: f"{place}/refusal.json"},
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
        refused = _refused(Path(place) / "refusal.json")
    if process.returncode == 0:
        return told
    for line in told.splitlines()[-15:]:
        report_progress(line)
    raise refused or _ended(what, process.returncode, code)


def _refused(file: Path) -> SlipwayError | None:
    """Return what a stage refused, in its own words; None where it ended without any."""
    try:
        return SlipwayError.from_dict(parse_json(file.read_bytes())) if file.exists() else None
    except (DocumentError, AttributeError) as error:
        return SlipwayError(f"a stage's refusal can't be read: {error}", next="see what is said above")


def _ended(what: str, returned: int, stage: int | None) -> SlipwayError:
    """Return the refusal for a program that said nothing of its own: `stage` is the code of the stage that DVC ran."""
    if stage is None and what.startswith("dvc") and returned > 0:
        return UsageError(f"{what} was refused by DVC itself", next="fix what it names above")
    code = returned if stage is None else stage
    return _KINDS.get(code, SlipwayError)(f"{what} ended with {code}", next="fix what is named above")
