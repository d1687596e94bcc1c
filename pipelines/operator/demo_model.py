"""The second model of the demonstration: a regression on a public data set that scikit-learn brings along."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from pipelines.disk import remove_tree
from pipelines.operator.model_init import init_project
from pipelines.settings.models import FOLDER, ModelProject
from pipelines.settings.settings import ROOT

NAME = "diabetes-progression"
TARGET = "progression"


def second_project(tree: Path, policy: dict[str, Any]) -> ModelProject:
    """Write the project of the second model, with a policy of its own, into a working tree with git and DVC."""
    folder = tree / FOLDER / NAME
    if folder.exists():
        remove_tree(folder)
    file = folder / "data" / "raw" / "diabetes.csv"
    file.parent.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "pipelines.training.public_data", str(file), TARGET], cwd=ROOT, check=True)
    init_project(folder, file, tree, target=TARGET, name=NAME, ids=(), force=False)
    (folder / "policy.yaml").write_text(yaml.safe_dump(policy, sort_keys=False))
    return ModelProject(NAME, folder)
