"""Moves the data that dvc.lock names between the project and the installation's object store."""

from collections.abc import Mapping

from pipelines.settings.settings import Settings


def move_data(settings: Settings, environ: Mapping[str, str], *, into_store: bool) -> str:
    """Push the data that dvc.lock names to the object store, or pull it into the project; return what DVC says."""
    from pipelines.wiring.targets import wiring_of

    remote = wiring_of(settings.target).open_data_remote(settings, environ)
    move = remote.push if into_store else remote.pull
    return move(settings.project, settings.child_environ(environ))
