"""An MLflow behind passwords for tests, with the app that the image slipway/mlflow starts.

Run as a process of this machine, with the image's plugin beside the installed MLflow, or as the real image; in both
cases alone, with its records in SQLite and its admin's password ADMIN.
"""

import os
import secrets
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.containers.engine import hardened, url_of
from tests.support.servers.servers import await_http, free_port

ADMIN = "first-password-of-the-admin"
_IMAGE = Path(__file__).resolve().parents[3] / "infra" / "images" / "mlflow"
PLUGIN = _IMAGE / "plugin"


@contextmanager
def guarded_process(home: Path) -> Iterator[str]:
    """Run the MLflow that is installed here, guarded, with its files in `home`; yield its address, then end it."""
    address = f"127.0.0.1:{free_port()}"
    paths = [_offered(home), PLUGIN, os.environ.get("PYTHONPATH", "")]
    settings = {
        **settings_of(home),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
        "MLFLOW_SERVER_ALLOWED_HOSTS": address,
        "PYTHONPATH": os.pathsep.join(filter(None, map(str, paths))),
    }
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "slipway", "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--serve-artifacts"]
    log = home / "mlflow.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=home,
            env={**os.environ, **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        await_http(f"http://{address}/health", process, log)
        yield f"http://{address}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30.0)


@contextmanager
def guarded_container(image: str, home: Path) -> Iterator[str]:
    """Run the real image without its database and object store; yield its address, then end it."""
    env = {
        **settings_of(home, Path("/tmp")),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
        "MLFLOW_AUTH_CONFIG_PATH": "/etc/mlflow/sqlite.ini",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "*",
        "PGPASSWORD": "none is asked",
    }
    with hardened(image, port=5000, env=env, volumes={home / "auth.ini": "/etc/mlflow/sqlite.ini"}) as server:
        yield url_of(server, 5000)


def settings_of(home: Path, seen: Path | None = None) -> dict[str, str]:
    """Write the image's auth.ini for SQLite into `home`, which the server may see as `seen`; return its settings."""
    seen = seen or home
    own = (_IMAGE / "auth.ini").read_text().replace("postgresql+psycopg2://", f"sqlite:///{seen}/auth.db")
    (home / "auth.ini").write_text(own)
    (home / "auth.ini").chmod(0o644)
    return {
        "MLFLOW_ARTIFACTS_DESTINATION": str(seen / "artifacts"),
        "MLFLOW_AUTH_CONFIG_PATH": str(home / "auth.ini"),
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{seen}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }


def _offered(home: Path) -> Path:
    """Write what an installed plugin shows of itself, its name and its entry points; return the directory."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    shown = home / "installed" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    shown.mkdir(parents=True)
    (shown / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    (shown / "entry_points.txt").write_text(
        "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for group, points in groups)
    )
    return shown.parent
