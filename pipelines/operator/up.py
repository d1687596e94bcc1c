"""Brings an installation up, and says where it answers."""

from collections.abc import Callable, Mapping

from pipelines.domain.release import Environment
from pipelines.operator.policy_file import read_policy_file
from pipelines.operator.privacy import tighten
from pipelines.settings.settings import Settings

ProgressReporter = Callable[[str], None]


def bring_up(settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter) -> None:
    """Make the home and its tokens, start what does not run, and put policy.yaml in force at first.

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
    from pipelines.settings.installation import begin_record, keep_record
    from pipelines.settings.tokens import OPERATOR, make_tokens, own_token
    from pipelines.wiring.targets import open_installation

    if tighten(settings.home):
        report_progress(f"{settings.home} was open to others: closed")
    make_tokens(settings.tokens_file)
    token = own_token(settings.tokens_file, OPERATOR, verb="make up")
    begin_record(settings, open_installation(settings, environ).known_id())
    open_installation(settings, environ).up(report_progress)
    keep_record(settings)
    client = ApiClient(settings, token)
    if client.get("/policy")["policy"] is None:
        client.ask("/policy", {"policy": read_policy_file(settings.project / "policy.yaml")}, report_progress)
        report_progress("policy.yaml is in force")
    for line in client.get("/status")["stalled"]:
        report_progress(f'{line}; "slipway logs" says why')


def urls(settings: Settings) -> dict[str, str]:
    """Return what can be opened in a browser."""
    return {
        **{
            environment: f"{settings.url(settings.port(settings.endpoint(environment)))}/docs"
            for environment in Environment
        },
        "api": f"{settings.api_url}/docs",
        "mlflow": settings.mlflow_url,
    }
