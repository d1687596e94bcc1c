"""The demonstration on real processes, and what it leaves running."""

import json
import re
import subprocess
import urllib.request
from typing import Any

import pytest

from tests.e2e.installation import ROOT, Installation

# The first test waits for the whole demonstration.
pytestmark = pytest.mark.timeout(900)


def test_the_demonstration_goes_all_the_way_and_back(demo: tuple[Installation, str]) -> None:
    served, printed = demo
    assert "Promoted churn-model v1 -> Production" in printed
    assert "Promoted churn-model v2 -> Production (archived v1)" in printed
    assert re.search(r"FAIL: accuracy=0\.7\d{3} < 0\.9", printed)
    assert "v2 -> v1" in printed
    assert served.health("production")["version"] == "1"
    states = [(r["version"], r["kind"], r["state"]) for r in served.releases()]
    assert states == [
        ("1", "promotion", "superseded"),
        ("2", "promotion", "rolled_back"),
        ("1", "rollback", "serving"),
    ]


def test_the_registry_shows_aliases_lifecycles_and_the_frozen_report(demo: tuple[Installation, str]) -> None:
    served, _ = demo
    registered = mlflow(served, "registered-models/get?name=churn-model")["registered_model"]
    aliases = {entry["alias"]: entry["version"] for entry in registered["aliases"]}
    assert aliases == {"production": "1", "staging": "2"}
    versions = {n: mlflow(served, f"model-versions/get?name=churn-model&version={n}") for n in "123"}
    tags = {n: {t["key"]: t["value"] for t in v["model_version"]["tags"]} for n, v in versions.items()}
    assert [tags[n]["lifecycle"] for n in "123"] == ["Production", "RolledBack", "Rejected"]
    run = versions["1"]["model_version"]["run_id"]
    url = f"{served.settings.mlflow_url}/get-artifact?run_id={run}&path=evidence/report.json"
    with urllib.request.urlopen(url, timeout=10) as answer:
        report = json.load(answer)
    assert report["bundle_digest"] == served.health("production")["digest"]
    assert report["verdict"] == "passed"
    assert report["profile"] == "demo"
    messages = {gate["name"]: gate["message"] for gate in report["gates"]}
    assert messages.keys() >= {"digest", "golden_rows", "accuracy", "smoke", "slo.p95"}
    assert "[path: direct]" in messages["slo.p95"]


def test_the_log_of_the_executor_tells_who_is_waited_for_and_what_serves(served: Installation) -> None:
    log = (served.home / "logs" / "executor.log").read_text()
    assert re.search(r"slipway\.notifications p-\d+ waits for people to decide on version 2", log)
    assert "slipway.notifications production serves version 2" in log


def test_the_working_tree_stays_as_it_was(served: Installation) -> None:
    for tree in (ROOT, served.settings.project):
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "data", "models", "dvc.lock", "model.yaml"],
            cwd=tree,
            capture_output=True,
            text=True,
            check=True,
        )
        assert changed.stdout == ""


def test_every_invariant_holds_after_the_demonstration(served: Installation) -> None:
    served.await_content()
    invariants = served.read("doctor")["invariants"]
    assert [i["id"] for i in invariants] == [f"I{number}" for number in range(1, 9)]
    assert [i["id"] for i in invariants if not i["holds"]] == ["I5"], "of which nothing here is recorded"


def test_services_answer_while_the_executor_and_the_api_are_dead(served: Installation) -> None:
    before = served.health("production")
    served.kill("executor")
    served.kill("api")
    assert served.health("production") == before
    assert served.slipway("status").returncode == 4
    served.done("up")
    assert served.read("status")["serving"]["production"]["version"] == before["version"]


def mlflow(served: Installation, path: str) -> dict[str, Any]:
    """Ask MLflow itself."""
    with urllib.request.urlopen(f"{served.settings.mlflow_url}/api/2.0/mlflow/{path}", timeout=10) as answer:
        body: dict[str, Any] = json.load(answer)
    return body
