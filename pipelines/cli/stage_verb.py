"""The verb that a project's dvc.yaml calls: one stage of the training, of the Slipway that is installed."""

import importlib
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


class Stage(StrEnum):
    """The stages of a project, in their order."""

    LOCK = "lock"
    PREPARE = "prepare"
    TRAIN = "train"
    SCORE = "score"


@app.command()
def stage(
    name: Annotated[Stage, typer.Argument(help="Which one; lock writes what the others run on.")],
    root: Annotated[Path, typer.Option(help="The project's folder.")] = Path(),
) -> None:
    """Run one stage of a project's training (called by its dvc.yaml)."""
    from pipelines.training.workspace import STAGE_ENVIRON, run_stage

    for variable, value in STAGE_ENVIRON.items():
        os.environ.setdefault(variable, value)
    # By its name: what trains is not in the image of the API and the executor, which this module is in.
    module = importlib.import_module(f"pipelines.training.{name}")
    raise typer.Exit(run_stage(getattr(module, name), ["--root", str(root)]))
