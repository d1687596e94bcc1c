"""Registers in MLflow: a trained working tree (`python -m pipelines.wiring.register --tracking-uri URL`), or a model.

MLflow's own library takes seconds to import: what is wrong without it is told before.
"""

from pathlib import Path
from typing import Any

from pipelines.training.register import Log, Registered, Registration, main
from pipelines.training.workspace import Workspace


def register(workspace: Workspace, tracking_uri: str, git_root: Path) -> dict[str, Any]:
    """Log and register what the stages left in a working tree."""
    from pipelines.adapters.mlflow.training_run import register as register_run

    return register_run(workspace, tracking_uri, git_root)


def register_version(workspace: Workspace, what: Registration, tracking_uri: str, run_id: str | None) -> Registered:
    """Log and register the files of a workspace, in a run of that id, the active one or a new one."""
    from pipelines.adapters.mlflow.training_run import register_version as register_files

    return register_files(workspace, what, tracking_uri, run_id)


def register_converted(folder: str, tracking_uri: str) -> dict[str, Any]:
    """Log and register what a conversion has left in a folder."""
    from pipelines.adapters.mlflow.training_run import register_converted as register_folder

    return register_folder(Path(folder), tracking_uri)


def log_own_set(model: str, snapshot: str, tracking_uri: str) -> dict[str, Any]:
    """Log an evaluation set of a model that is no version's, in a run of its own."""
    from pipelines.adapters.mlflow.training_run import log_own_set as log_file

    return log_file(Path(snapshot), model, tracking_uri)


def log_evaluation(snapshot: Path, model: str, tracking_uri: str, run_id: str | None) -> str:
    """Log an evaluation set on such a run; return its id."""
    from pipelines.adapters.mlflow.training_run import log_evaluation as log_file

    return log_file(snapshot, model, tracking_uri, run_id)


def tracking_address(given: str | None) -> str:
    """Return the address of the tracking server that is meant."""
    from pipelines.adapters.mlflow.training_run import tracking_address as address

    return address(given)


if __name__ == "__main__":
    logs: dict[str, Log] = {
        "converted": (("FOLDER",), register_converted),
        "evaluation": (("MODEL", "FILE"), log_own_set),
    }
    raise SystemExit(main(register, logs))
