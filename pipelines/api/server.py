"""Runs the API of one home on its port."""

from pipelines.api.app import create_app
from pipelines.api.auth import read_tokens
from pipelines.api.state import ApiState
from pipelines.settings.settings import Settings, model_name
from pipelines.wiring.common import open_checkpoints, open_records, open_versions


def serve_api(settings: Settings) -> None:
    """Serve until SIGTERM."""
    import uvicorn

    state = ApiState(
        records=open_records(settings),
        checkpoints=open_checkpoints(settings),
        versions=open_versions(settings),
        model=model_name(settings.project),
        tokens=read_tokens(settings.tokens_file),
    )
    uvicorn.run(create_app(state), host=settings.api_host, port=settings.api_port, log_level="warning")
