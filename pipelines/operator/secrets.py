"""Names the secrets of an installation and gives them new values; none is ever shown."""

from collections.abc import Callable, Mapping

from pipelines.settings.installation import refuse_other_model
from pipelines.settings.settings import Settings
from pipelines.settings.tokens import make_tokens

ProgressReporter = Callable[[str], None]


def rotate_secrets(
    name: str, settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter
) -> list[str]:
    """Change one secret, or `all` that can change, everywhere; with no name make what is missing.

    Returns the names of those that changed, or of all.
    """
    from pipelines.wiring.targets import wiring_of

    refuse_other_model(settings)
    secrets = wiring_of(settings.target).open_secrets(settings, environ)
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_tokens(settings.tokens_file)
    return secrets.rotate(name, report_progress) if name else secrets.secret_names()
