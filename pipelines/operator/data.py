"""Moves the data that dvc.lock names between the project and the installation's object store."""

from collections.abc import Mapping

from pipelines.settings.settings import Settings


def move_data(settings: Settings, environ: Mapping[str, str], *, into_store: bool, model: str = "") -> str:
    """Push the data that dvc.lock names to the object store, or pull it into the project; return what DVC says.

    The project is that of `model`, of the default one if none is named.
    """
    from pipelines.wiring.targets import wiring_of

    project = settings.model(model).folder
    remote = wiring_of(settings.target).open_data_remote(settings, environ)
    move = remote.push if into_store else remote.pull
    return move(project, settings.child_environ(environ))
