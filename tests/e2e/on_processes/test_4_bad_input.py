"""What is refused, with which exit code, and that nothing was lost or half-changed by it."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.e2e.installation import ROOT, Installation

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["promote", "--version", "99"], 2, "has no version 99"),
        (["promote", "--version", "../../x"], 2, "has no version ../../x"),
        (["promote"], 2, "version"),
        (["promote", "--version", ""], 2, "no version is named"),
        (["reject", "--version", "1", "--reason", " ", "--as", "bob"], 2, "a rejection needs a reason"),
        (["deploy-staging", "--version", "0"], 2, "has no version 0"),
        (["promote", "--version", "1", "--override", "why"], 2, "an override needs its gates and a reason"),
        (["promote", "--version", "1", "--override", "x", "--gates", "smoke"], 2, "can't be overridden"),
        (["approve", "--version", "1", "--as", "bob"], 2, "no promotion of version 1 waits"),
        (["approve", "--version", "1", "--as", "mallory"], 2, "no token for 'mallory'"),
        (["reject", "--version", "1", "--as", "bob"], 2, "reason"),
        (["rollback", "--env", "moon"], 2, "environment"),
        (["policy", "apply", "nowhere.yaml"], 2, "can't be read"),
        (["destroy"], 2, "CONFIRM=yes"),
        (["data", "push"], 2, "TARGET=local has no object store"),
        (["data", "pull"], 2, "TARGET=local has no object store"),
        (["launch"], 2, "launch"),
    ],
)
def test_nonsense_is_refused_with_what_to_do(served: Installation, words: list[str], code: int, says: str) -> None:
    before = served.ask("/releases")
    ended = served.slipway(*words)
    assert (ended.returncode, says in ended.stderr) == (code, True), ended.stderr
    assert "next: " in ended.stderr
    assert ended.stdout == ""
    assert served.ask("/releases") == before


def test_a_refusal_as_json_has_code_message_and_next(served: Installation) -> None:
    ended = served.slipway("promote", "--version", "99", "--json")
    error = json.loads(ended.stdout)["error"]
    assert error["code"] == "unknown_version"
    assert set(error) == {"code", "message", "next"}
    assert ended.returncode == 2


def test_a_policy_with_an_unknown_key_is_refused_and_the_old_one_stays(served: Installation) -> None:
    before = json.loads(served.done("policy", "show"))["digest"]
    body = yaml.safe_load((ROOT / "policy.demo.yaml").read_text())
    body["gates"]["acuracy"] = {"minimum": 0.1}
    file = served.home / "misspelt.yaml"
    file.write_text(yaml.safe_dump(body))
    ended = served.slipway("policy", "apply", str(file))
    assert ended.returncode == 2
    assert "unknown policy key 'acuracy'" in ended.stderr
    assert json.loads(served.done("policy", "show"))["digest"] == before


def test_a_target_that_does_not_exist_is_refused(served: Installation) -> None:
    ended = served.slipway("status", TARGET="moon")
    assert ended.returncode == 2
    assert "TARGET=moon" in ended.stderr


def test_a_frozen_executor_is_replaced_and_a_second_release_is_refused_with_the_holder(served: Installation) -> None:
    version = served.staged()
    served.restart_executor(SLIPWAY_FAULT="K5:freeze")
    releasing = served.ask_and_approve(version)
    frozen = served.process("executor")
    assert frozen is not None
    served.wait_for(lambda: frozen.status() == "stopped", "the executor to freeze at K5")
    rollback = served.begin("rollback")
    ended = served.slipway("up")
    assert ended.returncode == 0, ended.stderr
    assert "executor does not answer: starting it anew" in ended.stderr
    _, told = releasing.communicate(timeout=60)
    assert releasing.returncode == 0, told
    assert "interrupted at K5, recovered" in told
    _, told = rollback.communicate(timeout=60)
    assert rollback.returncode == 3
    assert "production is being changed by p-" in told
    assert served.health("production")["version"] == version
    served.await_content()


def test_a_port_that_is_taken_is_named_with_its_holder_and_setting(served: Installation, tmp_path: Path) -> None:
    other = {**served.environ, "SLIPWAY_HOME": str(tmp_path / "other")}
    command = [sys.executable, "-m", "pipelines.cli", "up"]
    ended = subprocess.run(command, cwd=ROOT, env=other, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert f"port {served.settings.mlflow_port} of mlflow is taken by process" in ended.stderr
    assert "SLIPWAY_PORT_MLFLOW" in ended.stderr
    assert not (tmp_path / "other" / "run" / "processes.json").exists()
    assert served.health("production")["status"] == "ok"


def test_without_mlflow_a_promotion_is_refused_and_a_run_that_is_killed_whole_is_mended_by_up(
    served: Installation,
) -> None:
    before = served.health("production")
    served.kill("mlflow")
    ended = served.slipway("promote", "--version", "1")
    assert ended.returncode == 4
    assert f"MLflow at {served.settings.mlflow_url} did not answer" in ended.stderr
    assert served.health("production") == before
    for name in ("executor", "api", "supervisor-staging-churn-model", "supervisor-production-churn-model"):
        served.kill(name)
    served.done("up")
    assert served.health("production") == before
    served.await_content()


def test_a_version_without_onnx_is_refused_with_the_line_that_logs_it(served: Installation) -> None:
    code = (
        "import mlflow, numpy as np\n"
        "from sklearn.linear_model import LogisticRegression\n"
        f"mlflow.set_tracking_uri({served.settings.mlflow_url!r})\n"
        "mlflow.set_experiment('churn-model')\n"
        "model = LogisticRegression().fit(np.array([[0.0], [1.0]]), [0, 1])\n"
        "with mlflow.start_run():\n"
        "    mlflow.sklearn.log_model(model, name='model', registered_model_name='churn-model',"
        " pip_requirements=['scikit-learn'])\n"
    )
    logged = subprocess.run(
        [sys.executable, "-c", code], env=served.environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert logged.returncode == 0, logged.stderr
    ended = served.slipway("deploy-staging")
    assert ended.returncode == 2
    assert "slipway.log_model(" in ended.stderr


def test_a_tampered_audit_row_is_named(served: Installation) -> None:
    assert served.read("audit-verify")["valid"]
    database = sqlite3.connect(served.home / "slipway.db")
    try:
        database.execute("DROP TRIGGER audit_log_no_update")
        was = database.execute("SELECT actor FROM audit_log WHERE seq = 5").fetchone()[0]
        database.execute("UPDATE audit_log SET actor = 'nobody' WHERE seq = 5")
        database.commit()
        ended = served.slipway("audit-verify", "--json")
        checked = json.loads(ended.stdout)
        broken = {i["id"]: i["holds"] for i in served.read("doctor")["invariants"]}
        # Whatever opens the database puts its triggers back.
        database.execute("DROP TRIGGER IF EXISTS audit_log_no_update")
        database.execute("UPDATE audit_log SET actor = ? WHERE seq = 5", (was,))
        database.commit()
    finally:
        database.close()
    assert (ended.returncode, checked["valid"], checked["first_bad"]) == (3, False, 5)
    assert broken["I4"] is False
    assert served.read("audit-verify")["valid"]


def test_down_keeps_state_and_up_serves_it_again_and_an_audit_cut_off_meanwhile_contradicts_its_heads(
    served: Installation, tmp_path: Path
) -> None:
    before = served.health("production")
    served.done("down")
    copy = tmp_path / "slipway.db"
    shutil.copy(served.home / "slipway.db", copy)
    database = sqlite3.connect(served.home / "slipway.db")
    database.execute("DROP TRIGGER audit_log_no_delete")
    database.execute("DELETE FROM audit_log WHERE seq = (SELECT max(seq) FROM audit_log)")
    database.commit()
    database.close()
    doctor = {i["id"]: i for i in served.read("doctor")["invariants"]}
    shutil.copy(copy, served.home / "slipway.db")
    served.done("up")
    assert doctor["I4"]["holds"] is False
    assert "a checkpoint outside names entry" in doctor["I4"]["detail"]
    assert served.health("production") == before
    served.await_content()
