"""The way of a version after the demonstration: failure, recovery, refusal, and rollback while others wait."""

import json
import re
import urllib.request
from pathlib import Path

import pytest

from pipelines.packaging.snapshot import read_snapshot
from tests.e2e.installation import BROKEN_LIBRARY, Installation

pytestmark = pytest.mark.timeout(900)

# The steps of a release at which the executor is killed, one after the other.
KILLED_AT = ("K4", "K5", "K8")


def test_a_release_that_crashes_leaves_the_old_one_serving_and_shows_its_last_words(served: Installation) -> None:
    version = served.staged()
    before = served.health("production")
    broken = served.libraries / BROKEN_LIBRARY
    broken.write_text("no library")
    try:
        asking = served.ask_and_approve(version)
        _, told = asking.communicate(timeout=120)
    finally:
        broken.unlink()
    assert asking.returncode == 5
    assert f"{BROKEN_LIBRARY}: file too short" in told
    assert served.health("production") == before
    assert served.releases()[-1]["state"] == "failed"
    served.await_content()


def test_a_promotion_goes_on_where_a_killed_executor_left_it(served: Installation) -> None:
    # Staging passes the same steps, and the fault is to strike the release into production.
    version = served.staged()
    champion = served.health("production")["version"]
    served.restart_executor(SLIPWAY_FAULT=f"{KILLED_AT[0]}:kill")
    asking = served.ask_and_approve(version)
    for step, following in zip(KILLED_AT, (*KILLED_AT[1:], None), strict=True):
        served.wait_for(lambda: served.process("executor") is None, f"the executor to die at {step}")
        assert served.health("production")["version"] in (champion, version)
        if following:
            # It may have died at the next step already, before it was seen to be ready.
            served.slipway("up", SLIPWAY_FAULT=f"{following}:kill")
    served.done("up")
    printed, told = asking.communicate(timeout=60)
    assert asking.returncode == 0, told
    assert printed.strip() == f"Promoted churn-model v{version} -> Production (archived v{champion})"
    for step in KILLED_AT:
        assert f"interrupted at {step}, recovered" in told
    assert served.health("production")["version"] == version
    served.await_content()


def test_a_gates_no_is_the_result_and_ends_with_3(served: Installation) -> None:
    served.apply_policy(accuracy=0.9)
    ended = served.slipway("deploy-staging")
    served.apply_policy()
    assert ended.returncode == 3
    assert re.fullmatch(r"FAIL: accuracy=0\.7\d{3} < 0\.9", ended.stdout.strip())


def test_rows_that_a_person_adds_are_one_set_and_stop_a_version_by_limits_of_their_own(
    served: Installation, tmp_path: Path
) -> None:
    header, *lines = (served.tree / "data/raw/telco-customer-churn.csv").read_text().splitlines()
    rows = tmp_path / "hard.csv"
    rows.write_text("\n".join([header, *lines[:400]]) + "\n")
    added = served.read("evalset", "add", str(rows), "--name", "hard_cases")
    assert (added["known"], added["added"]["rows"], added["added"]["person"]) == (False, 400, "alice")
    assert served.read("evalset", "add", str(rows), "--name", "hard_cases")["known"]
    served.apply_policy(sets={"hard_cases": {"digest": added["digest"], "gates": {"accuracy": {"minimum": 0.99}}}})
    ended = served.slipway("deploy-staging")
    listed = served.done("evalset", "list")
    served.apply_policy()
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert re.fullmatch(r"FAIL: accuracy=0\.\d{4} < 0\.99 \(on hard_cases\)", ended.stdout.strip())
    assert re.search(rf"\b{added['number']}\b.*hard_cases", listed), listed


def test_drift_of_what_production_is_asked_is_measured_when_somebody_asks(served: Installation) -> None:
    asked = read_snapshot(served.tree / "data/snapshots/evaluation.parquet").features
    rows = asked[asked["Contract"] == "Two year"]
    kept = kept_in_production(served)
    url = f"http://127.0.0.1:{served.settings.production_port}/predict/batch"
    # Of a larger batch some rows are sampled only.
    for first in range(0, 200, 50):
        batch = rows.iloc[first : first + 50].to_json(orient="records")
        request = urllib.request.Request(url, f'{{"rows": {batch}}}'.encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert len(json.load(answer)["predictions"]) == 50
    served.wait_for(lambda: kept_in_production(served) >= kept + 200, "the requests to be read")

    told = served.done("live", "--drift")

    assert "DRIFTED" in told, told
    assert re.search(r"^Contract .* drifted$", told, re.MULTILINE), told


def kept_in_production(served: Installation) -> int:
    windows = served.ask("/live")["windows"]
    return sum(each["kept"] for each in windows if each["environment"] == "production")


def test_a_version_is_asked_what_production_was_asked(served: Installation) -> None:
    version = served.staged()
    report = json.loads(served.evidence(version, "report.json"))
    told = {gate["name"]: (gate["verdict"], gate["message"]) for gate in report["gates"]}
    verdict, message = told["shadow.flips"]
    asked = re.search(r"of ([0-9,]+) sampled requests of v", message)
    assert verdict == "passed"
    assert asked is not None
    assert int(asked[1].replace(",", "")) >= 200


def test_while_a_promotion_waits_its_requester_can_not_approve_and_rollback_works(served: Installation) -> None:
    version = served.staged()
    asking = served.begin("promote", "--version", version)
    served.await_state(version, "waiting", asking)
    own = served.slipway("approve", "--version", version)
    bad = served.health("production")["version"]
    rolled_back = served.read("rollback")
    assert rolled_back["replaced"] == bad
    assert served.health("production")["version"] == rolled_back["version"] != bad
    served.done("reject", "--version", version, "--reason", "not today", "--as", "bob")
    _, told = asking.communicate(timeout=30)
    assert asking.returncode == 3
    assert "rejected by bob: not today" in told
    states = {r["version"]: r["state"] for r in served.releases()}
    assert states[bad] == "rolled_back"
    assert own.returncode == 3
    assert "alice asked for this promotion and can't approve it" in own.stderr
    assert f"alice asks for v{version} in production in place of v{bad}" in own.stderr
    refused = [e for e in served.read("audit", "--limit", "200")["entries"] if "refused" in e["detail"]]
    assert (refused[-1]["actor"], refused[-1]["action"]) == ("alice", "promotion.approve")
