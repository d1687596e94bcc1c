"""Brings an installation up, and says where it answers."""

from collections.abc import Callable, Mapping

from pipelines.domain.release import Environment
from pipelines.operator.privacy import tighten
from pipelines.settings.settings import Settings

ProgressReporter = Callable[[str], None]


def bring_up(settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter) -> None:
    """Make the home and its tokens, start what does not run, and put each model's policy in force at first.

    Raises Refused while another command brings this home up or takes it down.
    """
    from pipelines.settings.installation import refuse_other_model
    from pipelines.wiring.targets import hold_home

    refuse_other_model(settings)
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_home(settings, "up"):
        _bring_up(settings, environ, report_progress)
    for name, url in urls(settings).items():
        report_progress(f"{name:11} {url}")


def _bring_up(settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter) -> None:
    from pipelines.api.client import ApiClient
    from pipelines.operator.models import take_up_all
    from pipelines.settings.installation import begin_record, keep_models, keep_record
    from pipelines.settings.tokens import OPERATOR, make_tokens, own_token
    from pipelines.wiring.targets import open_installation

    if tighten(settings.home):
        report_progress(f"{settings.home} was open to others: closed")
    make_tokens(settings.tokens_file)
    token = own_token(settings.tokens_file, OPERATOR, verb="make up")
    begin_record(settings, open_installation(settings, environ).known_id())
    open_installation(settings, environ).up(report_progress)
    keep_record(settings)
    keep_models(settings)
    take_up_all(settings, token, report_progress)
    client = ApiClient(settings, token)
    for line in client.get("/status")["stalled"]:
        report_progress(f'{line}; "slipway logs" says why')


def urls(settings: Settings) -> dict[str, str]:
    """Return what can be opened in a browser: the default model's environments by their names, those of others too."""
    further = {
        f"{model.name} {environment}": f"{settings.address(settings.endpoint(environment, model.name))}/docs"
        for model in settings.models[1:]
        for environment in Environment
    }
    return {
        **{environment: f"{settings.address(settings.endpoint(environment))}/docs" for environment in Environment},
        **further,
        "api": f"{settings.api_url}/docs",
        "mlflow": settings.mlflow_url,
    }
