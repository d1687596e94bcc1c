"""Whose git and whose DVC a project's folder is in: a version that names no commit can't be trained again."""

import subprocess
from configparser import ConfigParser, Error
from pathlib import Path

from pipelines.errors import UsageError

_GIT_S = 30.0
_HEAD = ("rev-parse", "--verify", "HEAD")


def git_root(folder: Path) -> Path | None:
    """Return the working tree of git that a folder is in, None outside of any."""
    return _above(folder, ".git")


def dvc_root(folder: Path) -> Path | None:
    """Return the DVC project that a folder is in; that of another repository around its own is none."""
    found, repository = _above(folder, ".dvc"), git_root(folder)
    return found if found is None or repository is None or found.is_relative_to(repository) else None


def missing_steps(folder: Path) -> list[str]:
    """Return the commands that put a folder under git and DVC, in their order; none where it is."""
    steps = []
    kept, repository = dvc_root(folder), git_root(folder)
    if repository is None and not (kept and _is_without_git(kept)):
        steps.append("git init")
    if kept is None:
        steps.append("dvc init" if repository in (None, folder) else "dvc init --subdir")
    return steps


def refuse_unversioned(folder: Path) -> None:
    """Raise UsageError unless a folder is in a DVC project and in a git repository with a commit.

    A DVC project that was made without git (`dvc init --no-scm`) needs none.
    """
    if steps := missing_steps(folder):
        what = " and in no ".join({"git": "git repository", "dvc": "DVC project"}[step.split()[0]] for step in steps)
        raise UsageError(
            f"{folder} is in no {what}", next=f'run "{" && ".join(steps)}" there, and commit what belongs to the model'
        )
    if git_root(folder) is not None and commit_of(folder) is None:
        said = _git(folder, *_HEAD)
        raise UsageError(
            f"git names no commit of {folder}, which a version would be of: "
            + (said.stderr.strip() if said else "git is not installed"),
            next='"git add ." and "git commit" there',
        )


def commit_of(folder: Path) -> str | None:
    """Return the commit that the repository of a folder stands at, None outside of git and before the first."""
    done = _git(folder, *_HEAD)
    return done.stdout.strip() if done and done.returncode == 0 else None


def is_dirty(project: Path) -> bool:
    """Tell whether a project differs from the commit of its repository.

    What else is in the repository does not count, such as the projects of other models inside of this one.
    """
    others = [f":(exclude){path.parent.relative_to(project)}" for path in project.glob("models/*/model.yaml")]
    done = _git(project, "status", "--porcelain", "--", ".", *others)
    return done is None or done.returncode != 0 or done.stdout != ""


def _above(folder: Path, name: str) -> Path | None:
    return next((each for each in (folder, *folder.parents) if (each / name).exists()), None)


def _is_without_git(kept: Path) -> bool:
    config = ConfigParser()
    try:
        config.read(kept / ".dvc/config", encoding="utf-8")
        return config.getboolean("core", "no_scm", fallback=False)
    except (Error, ValueError):
        # Whatever is wrong with it, DVC says in its own words.
        return False


def _git(folder: Path, *words: str) -> "subprocess.CompletedProcess[str] | None":
    """Return what git ended with, None where it is not installed."""
    try:
        return subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, timeout=_GIT_S, check=False
        )  # fmt: skip
    except FileNotFoundError:
        return None
