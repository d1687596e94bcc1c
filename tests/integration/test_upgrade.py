"""An installation of the oldest schema, with its supervisors running, brought up by today's code: it goes on."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.load.load_client import LoadClient, under_load
from pipelines.domain.release import REPLICAS, Environment
from tests.e2e.installation import ROOT, Installation
from tests.support.world.old_installation import FIXTURE, load_sqlite

MODEL = "churn-model"


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    made = Installation(tmp_path)
    unpack(made)
    keepers = [start_keeper(made, environment) for environment in Environment]
    try:
        made.wait_for(lambda: all(serves(made, environment) for environment in Environment), "the old supervisors")
        yield made
    finally:
        made.remove()
        for keeper in keepers:
            keeper.kill()
            keeper.wait()


def unpack(installation: Installation) -> None:
    home = installation.home
    shutil.copytree(FIXTURE / "home", home, dirs_exist_ok=True)
    for record in (home / "run").glob("*.json"):
        record.write_text(record.read_text().replace("@HOME@", str(home)))
    for name in ("slipway", "mlflow", "workflows"):
        load_sqlite(home / f"{name}.db", name)


def start_keeper(installation: Installation, environment: Environment) -> "subprocess.Popen[bytes]":
    """Start a supervisor as it was then, and record it as `up` did then."""
    port = {"staging": installation.settings.staging_port, "production": installation.settings.production_port}
    command = [sys.executable, "-m", "tests.support.world.former_supervisor", "--home", str(installation.home)]
    command += ["--model", MODEL, "--environment", environment, "--port", str(port[environment])]
    command += ["--replicas", str(REPLICAS[environment])]
    with (installation.home / f"{environment}.log").open("wb") as log:
        keeper = subprocess.Popen(command, cwd=ROOT, env=installation.environ, stderr=log, start_new_session=True)
    # Whoever ends it is not its parent, and must not find a zombie.
    threading.Thread(target=keeper.wait, daemon=True).start()
    record = installation.home / "run" / "processes.json"
    known = json.loads(record.read_text()) if record.exists() else {}
    known[f"keeper-{environment}"] = (keeper.pid, psutil.Process(keeper.pid).create_time())
    record.write_text(json.dumps(known))
    return keeper


def serves(installation: Installation, environment: Environment) -> bool:
    try:
        return installation.health(environment)["status"] == "ok"
    except OSError:
        return False


def golden_row(installation: Installation) -> dict[str, object]:
    bundle = next(installation.home.glob("bundles/*/bundle.json"))
    row: dict[str, object] = json.loads(bundle.read_text())["golden"]["rows"][0]
    return row


def test_an_installation_of_the_oldest_schema_goes_on(installation: Installation) -> None:
    url = f"http://127.0.0.1:{installation.settings.production_port}"
    before = installation.health("production")

    with under_load(LoadClient(url, golden_row(installation), kept_per_s=40, new_per_s=10)) as load:
        installation.done("up")
    assert load.failures == [] and len(load.answers) == load.sent > 50

    assert installation.health("production") == before
    assert not (installation.home / "run" / "keeper-production.json").exists()
    history = installation.read("history")["releases"]
    assert [(release["id"], release["version"]) for release in history] == [("r-1", "1"), ("r-2", "1"), ("r-3", "2")]
    proof = installation.read("audit-verify")
    assert proof["valid"] and proof["entries"] >= 30

    installation.done("approve", "--version", "2", "--as", "bob")
    installation.wait_for(lambda: installation.health("production")["version"] == "2", "version 2 in production")
    installation.wait_for(lambda: installation.ask("/status")["unfinished"] == [], "the promotion to end")
    assert "v2 -> v1" in installation.done("rollback")
    assert installation.health("production") == before
    assert installation.read("audit-verify")["valid"]
    invariants = installation.read("doctor")["invariants"]
    # What a roll has lost is recorded nowhere, so I5 can't be told.
    assert [invariant["id"] for invariant in invariants if not invariant["holds"]] == ["I5"]
