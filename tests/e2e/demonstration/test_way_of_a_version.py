"""The way of a version on real processes: demonstration, promotion, refusal, failure, rollback, recovery."""

import json
import re
import subprocess
import urllib.request
from typing import Any

import pytest

from tests.e2e.installation import BROKEN_LIBRARY, ROOT, Installation

# The first test waits for the whole demonstration.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def slipway(demo: tuple[Installation, str]) -> Installation:
    """The installation that the demonstration left running."""
    return demo[0]


def test_the_demonstration_goes_all_the_way_and_back(demo: tuple[Installation, str]) -> None:
    slipway, printed = demo
    assert "Promoted churn-model v1 -> Production" in printed
    assert "Promoted churn-model v2 -> Production (archived v1)" in printed
    assert re.search(r"FAIL: accuracy=0\.8\d{3} < 0\.9", printed)
    assert "v2 -> v1" in printed
    assert slipway.health("production")["version"] == "1"
    states = [(r["version"], r["kind"], r["state"]) for r in production(slipway)]
    assert states == [
        ("1", "promotion", "superseded"),
        ("2", "promotion", "rolled_back"),
        ("1", "rollback", "serving"),
    ]


def test_the_registry_shows_aliases_lifecycles_and_the_frozen_report(demo: tuple[Installation, str]) -> None:
    slipway, _ = demo
    registered = mlflow(slipway, "registered-models/get?name=churn-model")["registered_model"]
    aliases = {entry["alias"]: entry["version"] for entry in registered["aliases"]}
    assert aliases == {"production": "1", "staging": "2"}
    versions = {n: mlflow(slipway, f"model-versions/get?name=churn-model&version={n}") for n in "123"}
    tags = {n: {t["key"]: t["value"] for t in v["model_version"]["tags"]} for n, v in versions.items()}
    assert [tags[n]["lifecycle"] for n in "123"] == ["Production", "RolledBack", "Rejected"]
    run = versions["1"]["model_version"]["run_id"]
    url = f"{slipway.settings.mlflow_url}/get-artifact?run_id={run}&path=evidence/report.json"
    with urllib.request.urlopen(url, timeout=10) as answer:
        report = json.load(answer)
    assert report["bundle_digest"] == slipway.health("production")["digest"]
    assert report["verdict"] == "passed"
    assert report["profile"] == "demo"
    messages = {gate["name"]: gate["message"] for gate in report["gates"]}
    assert messages.keys() >= {"digest", "golden_rows", "accuracy", "smoke", "slo.p95"}
    assert "[path: direct]" in messages["slo.p95"]


def test_the_log_of_the_executor_tells_who_is_waited_for_and_what_serves(slipway: Installation) -> None:
    log = (slipway.home / "logs" / "executor.log").read_text()
    assert re.search(r"slipway\.notifications p-\d+ waits for people to decide on version 2", log)
    assert "slipway.notifications production serves version 2" in log


def test_the_working_tree_stays_as_it_was(demo: tuple[Installation, str]) -> None:
    changed = subprocess.run(
        ["git", "status", "--porcelain", "--", "data", "models", "dvc.lock", "model.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert changed.stdout == ""


def test_every_invariant_holds_after_the_demonstration(slipway: Installation) -> None:
    slipway.wait_for(lambda: slipway.slipway("doctor").returncode == 0, "the doctor to be content")
    invariants = slipway.read("doctor")["invariants"]
    assert [i["id"] for i in invariants] == [f"I{number}" for number in range(1, 9)]
    assert [i["id"] for i in invariants if not i["holds"]] == ["I5"], "of which nothing here is recorded"


def test_services_answer_while_the_executor_and_the_api_are_dead(slipway: Installation) -> None:
    before = slipway.health("production")
    slipway.kill("executor")
    slipway.kill("api")
    assert slipway.health("production") == before
    assert slipway.slipway("status").returncode == 4
    slipway.done("up")
    assert slipway.read("status")["serving"]["production"]["version"] == before["version"]


def test_a_release_that_crashes_leaves_the_old_one_serving_and_shows_its_last_words(slipway: Installation) -> None:
    version = slipway.staged()
    before = slipway.health("production")
    broken = slipway.libraries / BROKEN_LIBRARY
    broken.write_text("no library")
    try:
        asking = slipway.ask_and_approve(version)
        _, told = asking.communicate(timeout=120)
    finally:
        broken.unlink()
    assert asking.returncode == 5
    assert f"{BROKEN_LIBRARY}: file too short" in told
    assert slipway.health("production") == before
    assert production(slipway)[-1]["state"] == "failed"
    slipway.wait_for(lambda: slipway.slipway("doctor").returncode == 0, "the doctor to be content")


@pytest.mark.parametrize("step", ["K4", "K5", "K8"])
def test_a_promotion_goes_on_where_a_killed_executor_left_it(slipway: Installation, step: str) -> None:
    # Staging passes the same steps, and the fault is to strike the release into production.
    version = slipway.staged()
    champion = slipway.health("production")["version"]
    slipway.restart_executor(SLIPWAY_FAULT=f"{step}:kill")
    asking = slipway.ask_and_approve(version)
    slipway.wait_for(lambda: slipway.process("executor") is None, f"the executor to die at {step}")
    assert slipway.health("production")["version"] in (champion, version)
    slipway.done("up")
    printed, told = asking.communicate(timeout=60)
    assert asking.returncode == 0, told
    assert printed.strip() == f"Promoted churn-model v{version} -> Production (archived v{champion})"
    assert f"interrupted at {step}, recovered" in told
    assert slipway.health("production")["version"] == version
    slipway.wait_for(lambda: slipway.slipway("doctor").returncode == 0, "the doctor to be content")


def test_a_gates_no_is_the_result_and_ends_with_3(slipway: Installation) -> None:
    slipway.apply_policy(accuracy=0.9)
    ended = slipway.slipway("deploy-staging")
    slipway.apply_policy()
    assert ended.returncode == 3
    assert re.fullmatch(r"FAIL: accuracy=0\.8\d{3} < 0\.9", ended.stdout.strip())


def test_while_a_promotion_waits_its_requester_can_not_approve_and_rollback_works(slipway: Installation) -> None:
    version = slipway.staged()
    asking = slipway.begin("promote", "--version", version)
    slipway.await_state(version, "waiting", asking)
    own = slipway.slipway("approve", "--version", version)
    bad = slipway.health("production")["version"]
    rolled_back = slipway.read("rollback")
    assert rolled_back["replaced"] == bad
    assert slipway.health("production")["version"] == rolled_back["version"] != bad
    slipway.done("reject", "--version", version, "--reason", "not today", "--as", "bob")
    _, told = asking.communicate(timeout=30)
    assert asking.returncode == 3
    assert "rejected by bob: not today" in told
    states = {r["version"]: r["state"] for r in production(slipway)}
    assert states[bad] == "rolled_back"
    assert own.returncode == 3
    assert "alice asked for this promotion and can't approve it" in own.stderr
    assert f"alice asks for v{version} in production in place of v{bad}" in own.stderr
    refused = [e for e in slipway.read("audit", "--limit", "200")["entries"] if "refused" in e["detail"]]
    assert (refused[-1]["actor"], refused[-1]["action"]) == ("alice", "promotion.approve")


def test_down_keeps_state_and_up_serves_it_again(slipway: Installation) -> None:
    before = slipway.health("production")
    slipway.done("down")
    slipway.done("up")
    assert slipway.health("production") == before
    slipway.wait_for(lambda: slipway.slipway("doctor").returncode == 0, "the doctor to be content")


def production(slipway: Installation) -> list[dict[str, str]]:
    """Return production's releases, oldest first."""
    found = slipway.read("history")["releases"]
    return [release for release in found if release["environment"] == "production"]


def mlflow(slipway: Installation, path: str) -> dict[str, Any]:
    """Ask MLflow itself."""
    with urllib.request.urlopen(f"{slipway.settings.mlflow_url}/api/2.0/mlflow/{path}", timeout=10) as answer:
        body: dict[str, Any] = json.load(answer)
    return body
