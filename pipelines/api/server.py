"""Runs the API of one home on its port."""

from pipelines.api.app import create_app
from pipelines.api.state import ApiState


def serve_api(state: ApiState, *, host: str, port: int) -> None:
    """Serve until SIGTERM."""
    import uvicorn

    uvicorn.run(create_app(state), host=host, port=port, log_level="warning")
