"""Where the stages of dvc.yaml find and leave their files, and how a stage is run as a program."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import SlipwayError

# Read when OpenMP is loaded. Threads that wait by spinning take the cores from each other: on a busy machine gradient
# boosting took twenty times as long.
STAGE_ENVIRON = {"OMP_WAIT_POLICY": "PASSIVE"}


@dataclass(frozen=True)
class Workspace:
    """The files of one working tree."""

    root: Path

    @property
    def model_file(self) -> Path:
        """The description of the model."""
        return self.root / "model.yaml"

    @property
    def stage_lock(self) -> Path:
        """What the stages run on, where the tree holds no code of theirs."""
        return self.root / "slipway.lock"

    @property
    def train(self) -> Path:
        """Snapshot that the estimator is fitted on."""
        return self.root / "data/snapshots/train.parquet"

    @property
    def evaluation(self) -> Path:
        """Snapshot that no fitting sees."""
        return self.root / "data/snapshots/evaluation.parquet"

    @property
    def reference(self) -> Path:
        """Snapshot that drift is measured against."""
        return self.root / "data/snapshots/reference.parquet"

    @property
    def sklearn_model(self) -> Path:
        """The fitted pipeline; read by the training process only."""
        return self.root / "models/model.skops"

    @property
    def onnx_model(self) -> Path:
        """The model as it is served."""
        return self.root / "models/model.onnx"

    @property
    def predictions(self) -> Path:
        """What scikit-learn answers on each evaluation row."""
        return self.root / "models/predictions.parquet"

    @property
    def metrics(self) -> Path:
        """Measurements on the evaluation rows."""
        return self.root / "metrics.json"


# Who runs a stage by way of others, such as DVC, names a file here, and says itself what is written there.
REFUSAL_FILE = "SLIPWAY_REFUSAL_FILE"


def make_importable(root: Path) -> None:
    """Let the modules of a working tree be found, as they are by `python -m` in it."""
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))


def run_stage(stage: Callable[[Workspace], None], argv: Sequence[str] | None = None) -> int:
    """Run `stage` on the tree given by `--root` and return its exit code; refusals go to stderr."""
    parser = argparse.ArgumentParser(description=stage.__doc__)
    parser.add_argument("--root", type=Path, default=Path(), help="project root (default: here)")
    workspace = Workspace(parser.parse_args(argv).root.resolve())
    make_importable(workspace.root)
    try:
        stage(workspace)
    except SlipwayError as error:
        return utter(error)
    return 0


def report(text: str) -> None:
    """Tell people how far a stage is, on stderr: stdout belongs to results."""
    sys.stderr.write(f"{text}\n")


def utter(error: SlipwayError) -> int:
    """Write a refusal and what to do about it to stderr, or to who asks for it; return its exit code."""
    if asked := os.environ.get(REFUSAL_FILE):
        Path(asked).write_text(json.dumps(error.as_dict()), encoding="utf-8")
    else:
        report(f"{error.message}; {error.next}" if error.next else error.message)
    return error.exit_code
