"""Writes the model.yaml that is proposed for a file of data."""

import re
from pathlib import Path
from typing import Any

import yaml

from pipelines.errors import UsageError
from pipelines.operator.tables import render
from pipelines.training.proposal import Proposal, propose

_HEAD = """# Proposed by "slipway model init" from what the data shows. Correct what it can't know: bounds of numbers,
# what missing values mean (blank), categories to come, protected attributes, and another estimator.
"""


def init_model(
    project: Path, file: Path, *, target: str, name: str, ids: tuple[str, ...], force: bool
) -> tuple[dict[str, Any], str]:
    """Write model.yaml into `project`; return what stands in it, and a table of what each column is and why.

    Raises UsageError for an existing model.yaml without `force`, and for data that no model.yaml is proposed for.
    """
    described = project / "model.yaml"
    if described.exists() and not force:
        raise UsageError(f"{described} is there already", next="give --force (make: FORCE=yes) to write it anew")
    try:
        path = file.resolve().relative_to(project)
    except ValueError:
        raise UsageError(f"{file} is outside of the project {project}", next="copy it to data/raw first") from None
    proposed = propose(project, path.as_posix(), target=target, name=name or _name_of(path), ids=ids)
    described.write_text(_written(proposed), encoding="utf-8")
    rows = [(each.column, each.role, each.why) for each in proposed.roles]
    source = ", ".join(f"{key} {value!r}" for key, value in proposed.body["source"].items())
    told = (
        f"{source}\n{render(('column', 'is', 'because'), rows)}\n"
        f"Positive label: {proposed.body['positive']!r}. Wrote {described}"
    )
    return proposed.body, told


def _written(proposed: Proposal) -> str:
    text = yaml.safe_dump(proposed.body, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
    return _HEAD + text


def _name_of(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", path.stem).strip("-") or "model"
