"""The command line that registers a trained working tree, with the trainer's rights only.

The one line on stdout is `{"run_id", "accuracy", "model_version"}`; progress goes to stderr. What a conversion left is
registered too, and an evaluation set that is no version's is logged.
"""

import argparse
import contextlib
import http.client
import json
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.errors import RegistryUnavailable, SlipwayError, UsageError
from pipelines.training.lineage import refuse_spoiled
from pipelines.training.workspace import Workspace, make_importable, utter

# Takes the working tree, the address of the registry, and where git is asked; returns what the line on stdout says.
Register = Callable[[Workspace, str, Path], dict[str, Any]]
# What there is instead of a tree: the words of its option, and what logs them, given as they are, to the same address.
Log = tuple[tuple[str, ...], Callable[..., dict[str, Any]]]
_PROBE_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Registration:
    """What is registered with the files of a workspace.

    `parameters` say what the model was made with, `source` where its data is from and `source_digest` what that was,
    None where nobody knows. `git_root` is where the commit is read. `breaking` says why clients have to change for it,
    and `card` are the tags of what a person says of the model.
    """

    model: str
    parameters: Mapping[str, str]
    source: str
    source_digest: str | None
    git_root: Path
    breaking: str | None = None
    card: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Registered:
    """A registered version, the run that logged it, and the metrics that were logged with it."""

    model: str
    version: str
    run_id: str
    metrics: Mapping[str, float]


def main(register: Register, log: Mapping[str, Log], argv: Sequence[str] | None = None) -> int:
    """Have a working tree registered, or logged what an option that `log` names gives instead; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracking-uri", required=True, help="address of the MLflow server")
    parser.add_argument("--root", type=Path, default=Path(), help="project root (default: here)")
    parser.add_argument("--git-root", type=Path, help="where the commit is read (default: --root)")
    instead = parser.add_mutually_exclusive_group()
    for name, (words, _) in log.items():
        instead.add_argument(f"--{name}", nargs=len(words), metavar=words, help="what is logged instead of a project")
    arguments = parser.parse_args(argv)
    given = [(log_it, words) for name, (_, log_it) in log.items() if (words := getattr(arguments, name))]
    root = arguments.root.resolve()
    make_importable(root)
    uri = arguments.tracking_uri.rstrip("/")
    try:
        if not given:
            refuse_spoiled(root)
        reach(uri)
        if not given:
            _refuse_untrained(Workspace(root))
        # MLflow prints links to stdout, which belongs to the result.
        with contextlib.redirect_stdout(sys.stderr):
            if given:
                [(log_it, words)] = given
                result = log_it(*words, uri)
            else:
                result = register(Workspace(root), uri, arguments.git_root or root)
    except SlipwayError as error:
        return utter(error)
    print(json.dumps(result))
    return 0


def reach(tracking_uri: str) -> None:
    """Ask the server whether it lives, within 5 s; raise RegistryUnavailable."""
    if not tracking_uri.startswith(("http://", "https://")):
        raise UsageError(f"tracking URI {tracking_uri!r} is no server", next="give http://host:port")
    try:
        with urllib.request.urlopen(f"{tracking_uri}/health", timeout=_PROBE_TIMEOUT_S):
            return
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise RegistryUnavailable(
            f"MLflow at {tracking_uri} does not answer: {error}",
            next='run "make up", or look at the log of the model registry with "make logs"',
        ) from error


def _refuse_untrained(workspace: Workspace) -> None:
    needed = (
        workspace.train,
        workspace.evaluation,
        workspace.reference,
        workspace.sklearn_model,
        workspace.onnx_model,
        workspace.predictions,
        workspace.metrics,
    )
    missing = [str(path.relative_to(workspace.root)) for path in needed if not path.is_file()]
    if missing:
        raise UsageError(f"not trained yet: {', '.join(missing)} missing", next='run "dvc repro" first')
