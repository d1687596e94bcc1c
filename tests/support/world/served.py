"""What the service says of itself when it serves the example bundle."""

import io
import tempfile
from pathlib import Path
from typing import Any

from app.logs import EventLog
from app.main import Service
from app.settings import Settings
from tests.support.world.bundles import make_bundle


def describe_service() -> dict[str, Any]:
    """Return the OpenAPI document of a replica that serves the example bundle."""
    with tempfile.TemporaryDirectory() as directory:
        path, digest = make_bundle(Path(directory), model="example-model")
        settings = Settings(
            stage="Production", bundle_dir=path, bundle_digest=digest, model="example-model", version="1"
        )
        return Service(settings, EventLog(io.StringIO())).openapi()
