"""Takes an installation down, and removes it for ever."""

from collections.abc import Callable, Mapping
from pathlib import Path

from pipelines.disk import remove_tree
from pipelines.errors import UsageError
from pipelines.settings.settings import Settings

ProgressReporter = Callable[[str], None]


def take_down(settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter) -> None:
    """Stop what `up` started, and keep all state; raise Refused while another command changes it."""
    from pipelines.settings.installation import refuse_other_model
    from pipelines.wiring.targets import hold_home, open_installation

    refuse_other_model(settings)
    with hold_home(settings, "down"):
        open_installation(settings, environ).down(report_progress)


def destroy_home(settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter) -> None:
    """Stop everything and delete the home, if it is one; raise Refused while another command changes it."""
    from pipelines.settings.installation import FILE
    from pipelines.wiring.targets import hold_home, open_installation

    if not settings.home.exists():
        raise UsageError(f"there is no {settings.home}", next="nothing to destroy")
    known_by = [path for path in (settings.home / FILE, settings.tokens_file) if path.exists()]
    if not known_by:
        raise UsageError(f"{settings.home} is not a Slipway home", next="set SLIPWAY_HOME to one")
    with hold_home(settings, "destroy"):
        open_installation(settings, environ).destroy(report_progress)
        _remove(settings.home, last=known_by[0])
    report_progress(f"removed {settings.home}")


def _remove(home: Path, *, last: Path) -> None:
    """Remove a home, and `last` what shows that it is one: a removal that is cut off can be gone on with."""
    for path in home.iterdir():
        if path.is_dir() and not path.is_symlink():
            remove_tree(path)
        elif path != last:
            path.unlink()
    remove_tree(home)
