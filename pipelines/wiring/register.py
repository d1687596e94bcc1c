"""Registers a trained working tree in MLflow: `python -m pipelines.wiring.register --tracking-uri URL`."""

from pathlib import Path
from typing import Any

from pipelines.training.register import main
from pipelines.training.workspace import Workspace


def register(workspace: Workspace, tracking_uri: str, git_root: Path) -> dict[str, Any]:
    """Log and register by MLflow's own library, which takes seconds to import: what is not there is told before."""
    from pipelines.adapters.mlflow.training_run import register as register_run

    return register_run(workspace, tracking_uri, git_root)


if __name__ == "__main__":
    raise SystemExit(main(register))
