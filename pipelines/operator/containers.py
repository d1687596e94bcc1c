"""The verbs of the machine that has the engine: build images, rotate secrets, load, prepare a closed network."""

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from pipelines.errors import TargetUnavailable, Undecided, UsageError
from pipelines.ports import LoadRunner
from pipelines.settings.settings import ROOT, Settings, TargetName

ProgressReporter = Callable[[str], None]
_REFUSED = 2


def build_missing_images(
    names: Sequence[str], environ: Mapping[str, str], report_progress: ProgressReporter
) -> dict[str, str]:
    """Build the named images (all, when none is named) that are missing; return name -> image id."""
    from pipelines.wiring.common import build_images

    return build_images(names, environ, report_progress)


def rotate_secrets(
    name: str, settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter
) -> list[str]:
    """Change one secret, or `all` that can change, everywhere; with no name make what is missing.

    Returns the names of those that changed, or of all.
    """
    from pipelines.api.auth import make_tokens
    from pipelines.wiring.swarm import open_swarm_installation

    if settings.target is not TargetName.DOCKER:
        raise UsageError("only the installation on containers has secrets", next="TARGET=docker")
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_tokens(settings.tokens_file)
    stack = open_swarm_installation(settings, environ)
    return stack.rotate(name, report_progress) if name else stack.secret_names()


def move_data(settings: Settings, environ: Mapping[str, str], *, into_store: bool) -> str:
    """Push the data that dvc.lock names to the object store, or pull it into the project; return what DVC says."""
    from pipelines.wiring.swarm import open_swarm_installation

    if settings.target is not TargetName.DOCKER:
        raise TargetUnavailable(
            f"TARGET={settings.target} has no object store", next="TARGET=docker; or dvc with a remote of your own"
        )
    remote = open_swarm_installation(settings, environ).data_remote()
    move = remote.push if into_store else remote.pull
    return move(settings.project, settings.child_environ(environ))


def find_swarm_load(
    settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter
) -> Callable[[], LoadRunner] | None:
    """Return what opens the way to load staging from the swarm; None where the target has none."""
    if settings.target is not TargetName.DOCKER:
        return None
    from pipelines.wiring.swarm import open_staging_load

    return partial(open_staging_load, settings, environ, report_progress)


def prepare_offline(part: str, environ: Mapping[str, str]) -> None:
    """Make what can't be pulled on a closed network; raise UsageError or Undecided with its exit code."""
    command = [sys.executable, str(ROOT / "infra" / "offline" / "prepare.py"), part]
    ended = subprocess.run(command, cwd=ROOT, env=dict(environ), stdin=subprocess.DEVNULL, check=False).returncode
    if ended == _REFUSED:
        raise UsageError(f"offline {part} was refused", next="do what is named above")
    if ended != 0:
        raise Undecided(f"offline {part} ended with {ended}", next="mend what is named above, then run it again")
