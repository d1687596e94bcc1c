"""Runs the two processes of Slipway itself, the API and the executor, until they are told to end."""

import logging
import os
import signal
import threading
import uuid
from collections.abc import Mapping

from pipelines.errors import LostLease
from pipelines.settings.settings import Settings

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def run_api(settings: Settings) -> None:
    """Serve the API until SIGTERM."""
    from pipelines.api.server import serve_api
    from pipelines.settings.installation import installation_id
    from pipelines.wiring.processes import open_api_state

    logging.basicConfig(level=logging.WARNING, format=LOG_FORMAT)
    state, id = open_api_state(settings), installation_id(settings)
    serve_api(state, installation=id, host=settings.api_host, port=settings.api_port)


def run_executor(settings: Settings, environ: Mapping[str, str]) -> None:
    """Serve as the executor until SIGTERM."""
    from pipelines.executor.scheduler import serve
    from pipelines.wiring.processes import build_services, open_chores, open_engine, open_subscribers

    settings.sign_of_life.touch()
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    for noisy in ("httpx", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    services = build_services(settings, executor=uuid.uuid4().hex[:12], environ=environ)
    try:
        serve(
            services,
            open_engine(settings),
            subscribers=open_subscribers(),
            show_life=settings.sign_of_life.touch,
            stop=stop,
            chores=open_chores(settings),
        )
    except LostLease as lost:
        logging.getLogger("slipway.executor").critical("%s; this executor stops", lost.message)
        # Its threads would be waited for, and they may do nothing any more.
        os._exit(lost.exit_code)
