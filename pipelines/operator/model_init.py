"""Writes the model.yaml that is proposed for a file of data, into a project that is there or into one of its own."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import yaml

from pipelines.disk import as_full
from pipelines.domain.names import checked_name
from pipelines.errors import UsageError
from pipelines.operator.project_folder import ignored, pipeline
from pipelines.operator.tables import render
from pipelines.settings.models import FOLDER, model_name
from pipelines.training.proposal import Proposal, propose
from pipelines.training.repositories import missing_steps
from pipelines.training.workspace import Workspace

_HEAD = """# Proposed by "slipway model init" from what the data shows. Correct what it can't know: bounds of numbers,
# what missing values mean (blank), categories to come, protected attributes, and another estimator.
"""
_LIKE_A_NUMBER = re.compile(r"[-+.]?[0-9]")
# What a repository without any content may hold already.
_NO_CONTENT = re.compile(r"\..*|README.*|LICEN[CS]E.*", re.IGNORECASE)


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
        raise UsageError(
            f"{file} is outside of the project {project}",
            next="copy it to data/raw first, or give the model a folder of its own by --project FOLDER",
        ) from None
    proposed = propose(project, path.as_posix(), target=target, name=name or _name_of(path.stem), ids=ids)
    described.write_text(_written(proposed), encoding="utf-8")
    return proposed.body, _told(proposed, described)


def init_project(
    folder: Path, file: Path, installation: Path, *, target: str, name: str, ids: tuple[str, ...], force: bool
) -> tuple[dict[str, Any], str]:
    """Write a project of its own into `folder`: model.yaml, its data, dvc.yaml and .gitignore; return as `init_model`.

    A file from outside of the folder is copied to data/raw. `installation` is the project of the installation's default
    model. Raises UsageError, before anything is written, for a folder that holds something without `force`, for a name
    that its folder does not have in the installation's models, and as `init_model` does.
    """
    folder, file = folder.resolve(), file.resolve()
    _refuse_held(folder, file, installation, force=force)
    named = checked_name(name or _name_of(folder.name), what="model name")
    _refuse_misnamed(folder, installation, named)
    is_inside = file.is_relative_to(folder)
    kept = file.relative_to(folder) if is_inside else Path("data/raw") / file.name
    read_from = folder if is_inside else file.parent
    path = kept.as_posix() if is_inside else file.name
    proposed = propose(read_from, path, target=target, name=named, ids=ids)
    proposed.body["source"]["path"] = kept.as_posix()
    described = Workspace(folder).model_file
    try:
        (folder / kept).parent.mkdir(parents=True, exist_ok=True)
        if not is_inside:
            shutil.copyfile(file, folder / kept)
        _ignore(folder / ".gitignore")
        (folder / "dvc.yaml").write_text(pipeline(), encoding="utf-8")
        # With it the folder is a project.
        described.write_text(_written(proposed), encoding="utf-8")
    except OSError as error:
        raise as_full(error) or UsageError(f"{folder} can't be written: {error}", next="name another folder") from error
    return proposed.body, _told(proposed, described)


def steps_of(folder: Path, installation: Path, body: dict[str, Any]) -> str:
    """Return what is to be done in a new project, which the description `body` was written for, as commands."""
    folder = folder.resolve()
    steps = [*missing_steps(folder), f"dvc add {shlex.quote(body['source']['path'])}", "git add .", "git commit"]
    added = body["name"] if folder.parent == installation / FOLDER else shlex.quote(str(folder))
    then = f'"slipway model add {added}", then "slipway candidate --model {body["name"]}"'
    return f"look at model.yaml; in {folder}: {', '.join(steps)}; {then}"


def _refuse_held(folder: Path, file: Path, installation: Path, *, force: bool) -> None:
    if folder == installation:
        raise UsageError(
            f"{folder} is the installation's own project", next="leave --project out, or name a new folder"
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", next="name a new folder")
    if not folder.exists() or force:
        return
    own = folder / file.relative_to(folder).parts[0] if file.is_relative_to(folder) else None
    held = sorted(each.name for each in folder.iterdir() if each != own and not _NO_CONTENT.fullmatch(each.name))
    if held:
        raise UsageError(
            f"{folder} is there already, and holds {', '.join(held[:5])}",
            next="name a new folder, or give --force (make: FORCE=yes) to write model.yaml and dvc.yaml anew",
        )


def _refuse_misnamed(folder: Path, installation: Path, name: str) -> None:
    """Raise UsageError for a name that an installation would refuse of a model in its own folder of models."""
    if folder.parent != installation / FOLDER:
        return
    if name != folder.name:
        raise UsageError(
            f"a model in {folder.parent} is called as its folder: {folder.name}, not {name}",
            next=f"--project models/{name}, or leave --name out",
        )
    if name == model_name(installation):
        raise UsageError(f"{name} is the installation's default model", next="name another folder")


def _ignore(file: Path) -> None:
    """Have git ignore what the stages make, beside what it ignores already."""
    before = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    lines = [*before, *(line for line in ignored() if line not in before)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _told(proposed: Proposal, described: Path) -> str:
    rows = [(each.column, each.role, each.why) for each in proposed.roles]
    source = ", ".join(f"{key} {value!r}" for key, value in proposed.body["source"].items())
    return f"{source}\n{render(('column', 'is', 'because'), rows)}\n{_predicted(proposed.body)}. Wrote {described}"


def _predicted(body: dict[str, Any]) -> str:
    return f"Task: {body['task']}" if "task" in body else f"Positive label: {body['positive']!r}"


def _written(proposed: Proposal) -> str:
    text = yaml.dump(
        proposed.body, Dumper=_Quoting, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120
    )
    return _HEAD + text


class _Quoting(yaml.SafeDumper):
    """Quotes texts that begin as numbers do: some are numbers to DVC alone, which reads YAML of another version."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        """Return a text, quoted where it may be taken for a number."""
        return self.represent_scalar("tag:yaml.org,2002:str", data, style="'" if _LIKE_A_NUMBER.match(data) else None)


_Quoting.add_representer(str, _Quoting.represent_str)


def _name_of(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-") or "model"
