"""Runs the API of one home on its port."""

from pipelines.api.app import create_app
from pipelines.api.state import ApiState

# Whoever follows a stream comes back to the next process, and must not keep this one from ending.
STREAMS_END_S = 1


def serve_api(state: ApiState, *, host: str, port: int) -> None:
    """Serve until SIGTERM."""
    import uvicorn

    uvicorn.run(create_app(state), host=host, port=port, log_level="warning", timeout_graceful_shutdown=STREAMS_END_S)
