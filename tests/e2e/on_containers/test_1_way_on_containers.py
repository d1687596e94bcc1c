"""The whole way on containers: first start, demonstration, failing release, recovery, rollback."""

import json
import re
import urllib.error
import urllib.request

import pytest

from bench.load.load_client import LoadClient, LoadResult, under_load
from tests.e2e.containers import Containers
from tests.support.containers.engine import FIRST_BUILD_S

# The first test may have to build images.
pytestmark = pytest.mark.timeout(FIRST_BUILD_S)

ROW = {
    "gender": "Female", "SeniorCitizen": 0, "Partner": "Yes", "Dependents": "No", "tenure": 1, "PhoneService": "No",
    "MultipleLines": "No phone service", "InternetService": "DSL", "OnlineSecurity": "No", "OnlineBackup": "Yes",
    "DeviceProtection": "No", "TechSupport": "No", "StreamingTV": "No", "StreamingMovies": "No",
    "Contract": "Month-to-month", "PaperlessBilling": "Yes", "PaymentMethod": "Electronic check",
    "MonthlyCharges": 29.85, "TotalCharges": 29.85,
}  # fmt: skip


def test_a_first_start_is_alive_and_says_no_release(containers: Containers) -> None:
    for environment in ("staging", "production"):
        assert containers.health(environment)["status"] == "no release"
        port = {"staging": containers.settings.staging_port, "production": containers.settings.production_port}
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port[environment]}/ready", timeout=5)
        assert json.load(refused.value)["reason"] == "no release"
    assert containers.plan() == ""
    assert containers.invariants() == dict.fromkeys(("I1", "I2", "I3", "I4", "I6", "I7", "I8", "I9", "I10"), True)


def test_the_demonstration_goes_all_the_way_and_back_and_terraform_has_nothing_to_do(containers: Containers) -> None:
    printed = containers.done("demo")
    assert "Promoted churn-model v1 -> Production" in printed
    assert "Promoted churn-model v2 -> Production (archived v1)" in printed
    assert re.search(r"FAIL: accuracy=0\.7\d{3} < 0\.9", printed)
    assert "v2 -> v1" in printed
    assert containers.health("production")["version"] == "1"
    assert [(r["version"], r["kind"], r["state"]) for r in containers.releases()] == [
        ("1", "promotion", "superseded"),
        ("2", "promotion", "rolled_back"),
        ("1", "rollback", "serving"),
    ]
    assert containers.plan() == ""
    assert all(containers.invariants().values())


def test_promotion_a_killed_replica_up_and_rollback_lose_no_request(containers: Containers) -> None:
    containers.apply_policy()
    version, before = containers.staged(), containers.health("production")["version"]
    with under_load(LoadClient(containers.url, ROW, kept_per_s=80, new_per_s=20)) as result:
        asking = containers.ask_and_approve(version)
        containers.wait_for(lambda: containers.releases()[-1]["state"] == "starting", "the release to begin")
        containers.reload_edge()
        promoted = asking.communicate(timeout=180)
        killed = containers.running("production-live")
        containers.kill_one("production-live")
        containers.wait_for(lambda: len(containers.running("production-live") - killed) == 1, "a new replica")
        containers.done("up")
        containers.done("rollback")
    assert f"Promoted churn-model v{version} -> Production (archived v{before})" in promoted[0], promoted
    assert_unharmed(result, {before, version})
    assert containers.health("production")["version"] == before
    assert containers.plan() == ""


def test_staging_is_loaded_by_workers_that_the_swarm_places(containers: Containers) -> None:
    result = containers.read("loadtest", "--workers", "2", "--duration", "10")
    assert (result["verdict"], result["via"]) == ("passed", "edge"), result["checks"]
    assert {raw["file"][-len("worker0.parquet") :] for raw in result["raw"]} == {"worker0.parquet", "worker1.parquet"}
    assert result["served_versions"] == {containers.health("staging")["version"]: result["n"]}


def test_a_release_whose_replicas_die_leaves_the_old_one_serving(containers: Containers) -> None:
    version, before = containers.staged(), containers.health("production")
    with (
        under_load(LoadClient(containers.url, ROW, kept_per_s=80, new_per_s=20)) as result,
        containers.newcomers_killed("production-live"),
    ):
        asking = containers.ask_and_approve(version)
        _, told = asking.communicate(timeout=180)
    assert asking.returncode == 5, told
    assert "exited with status 137 while starting" in told
    assert_unharmed(result, {before["version"]})
    assert containers.health("production") == before
    assert containers.releases()[-1]["state"] == "failed"
    containers.wait_for(lambda: all(containers.invariants().values()), "the doctor to be content")


def test_a_promotion_goes_on_when_the_executor_was_killed(containers: Containers) -> None:
    version, before = containers.staged(), containers.health("production")["version"]
    asking = containers.ask_and_approve(version)
    containers.wait_for(lambda: containers.releases()[-1]["state"] == "starting", "the release to begin")
    containers.kill_one("executor")
    printed, told = asking.communicate(timeout=180)
    assert asking.returncode == 0, told
    assert printed.strip() == f"Promoted churn-model v{version} -> Production (archived v{before})"
    containers.wait_for(lambda: all(containers.invariants().values()), "the doctor to be content")


def assert_unharmed(result: LoadResult, versions: set[str]) -> None:
    """Assert that every request was answered, and by these versions alone."""
    assert result.sent > 100
    assert result.failures == []
    assert result.versions == versions
