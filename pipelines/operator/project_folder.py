"""What a model's project of its own holds beside its data and model.yaml: the stages for DVC, which call Slipway's.

Nothing of Slipway is copied: `slipway stage` is the one that is installed, and slipway.lock says which that was.
"""

from pathlib import Path
from typing import Any

import yaml

from pipelines.training.workspace import Workspace

_HEAD = """# The stages of the training, of the Slipway that is installed. model.yaml alone says what the data are.
# Files that a module of your own is made of belong to the deps of train. slipway.lock is written anew at each run:
# where it stays the same, the other stages need not run.
"""
_FILES = Workspace(Path())
_SNAPSHOTS = (_FILES.train, _FILES.evaluation, _FILES.reference)
_MODELS = (_FILES.sklearn_model, _FILES.onnx_model)


def pipeline() -> str:
    """Return the dvc.yaml of a project."""
    stages = {
        "lock": {
            "cmd": "slipway stage lock",
            "always_changed": True,
            "outs": [{_text(_FILES.stage_lock): {"cache": False}}],
        },
        "prepare": _stage("prepare", ["${source.path}"], {"outs": _texts(_SNAPSHOTS)}),
        "train": _stage("train", [_text(_FILES.train)], {"outs": _texts(_MODELS)}),
        "score": _stage(
            "score",
            _texts((_FILES.evaluation, *_MODELS)),
            {"outs": [_text(_FILES.predictions)], "metrics": [{_text(_FILES.metrics): {"cache": False}}]},
        ),
    }
    return _HEAD + yaml.safe_dump({"vars": ["model.yaml"], "stages": stages}, sort_keys=False)


def ignored() -> list[str]:
    """Return the lines that the .gitignore of a project needs."""
    snapshots = f"/{_text(_FILES.train.parent)}/"
    made = (*_MODELS, _FILES.predictions, _FILES.metrics)
    return [snapshots, *(f"/{_text(path)}" for path in made), "__pycache__/", "/.slipway/", "/.slipway-docker/"]


def _stage(name: str, deps: list[str], makes: dict[str, Any]) -> dict[str, Any]:
    params = [{_text(_FILES.model_file): None}]
    return {"cmd": f"slipway stage {name}", "deps": [*deps, _text(_FILES.stage_lock)], "params": params, **makes}


def _texts(paths: tuple[Path, ...]) -> list[str]:
    return [_text(path) for path in paths]


def _text(path: Path) -> str:
    return path.as_posix()
