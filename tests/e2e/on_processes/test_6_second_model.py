"""A second model joins the installation that the demonstration left: beside the first, and without a lost request."""

import http.client
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.domain.release import Environment
from pipelines.operator.demo_model import NAME, second_project
from pipelines.operator.health import read_health
from tests.e2e.installation import DEADLINE_S, Installation

pytestmark = pytest.mark.timeout(1200)


@dataclass
class Clients:
    """Asks production for one prediction after the other: `sent` counts them, `lost` says what was not answered."""

    port: int
    row: dict[str, Any]
    sent: int = 0
    lost: list[str] = field(default_factory=list)

    def ask(self, stop: threading.Event) -> None:
        """Ask on a connection that is kept, until `stop`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        body = json.dumps(self.row)
        while not stop.is_set():
            self.sent += 1
            try:
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.lost.append(f"status {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                connection.close()
            time.sleep(0.02)
        connection.close()


@contextmanager
def asking(served: Installation) -> Iterator[Clients]:
    """Have production of the first model asked all the while."""
    kept = [json.loads(path.read_bytes()) for path in (served.home / "work").glob("*/rows.json")]
    row = next(each["rows"][0] for each in kept if each["model"] == "churn-model")
    clients = Clients(served.settings.production_port, row)
    stop = threading.Event()
    thread = threading.Thread(target=clients.ask, args=(stop,))
    thread.start()
    try:
        yield clients
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def project(served: Installation) -> Path:
    """The project of the second model, with the quick policy of these tests."""
    policy = yaml.safe_load((served.home / "policy.test.yaml").read_text())
    return second_project(served.tree, policy).folder


def serving(served: Installation, model: str, environment: Environment = Environment.PRODUCTION) -> str | None:
    version = read_health(served.settings, environment, model).get("version")
    return str(version) if version else None


def test_a_model_is_added_under_load_and_both_are_promoted_at_once(served: Installation, project: Path) -> None:
    first = served.staged()
    before = {name: served.process(name) for name in ("api", "executor", "mlflow", "supervisor-production-churn-model")}
    # A model of the project that nobody has added yet is no matter of the one that is added.
    waiting = served.settings.project / "models" / "not-added"
    waiting.mkdir(parents=True)
    (waiting / "model.yaml").write_text("name: not-added\n")
    with asking(served) as clients:
        assert served.done("model", "add", str(project)).strip() == f"Added {NAME}"
        shutil.rmtree(waiting)
        after = {name: served.process(name) for name in before}
        assert served.read("status", "--model", NAME)["serving"] == {}
        ended = served.decided("candidate", "--model", NAME)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        # Both wait for people, then are released at once.
        asked = [
            served.begin("promote", "--version", first),
            served.begin("promote", "--version", "1", "--model", NAME),
        ]
        try:
            served.await_state(first, "waiting", asked[0])
            served.wait_for(lambda: waits(served, NAME), f"the promotion of {NAME} to wait")
            for words in (("--version", first), ("--version", "1", "--model", NAME)):
                served.done("approve", *words, "--as", "bob")
            told = [each.communicate(timeout=DEADLINE_S) for each in asked]
        finally:
            for each in asked:
                each.kill()
    assert [each.returncode for each in asked] == [0, 0], told
    assert (clients.lost, after) == ([], before)
    assert clients.sent > 100
    assert (serving(served, ""), serving(served, NAME)) == (first, "1")


def waits(served: Installation, model: str) -> bool:
    return any(work["state"] == "waiting" for work in served.read("status", "--model", model)["unfinished"])


def test_every_verb_shows_the_model_that_is_named(served: Installation) -> None:
    status = served.read("status")
    assert (status["model"], status["models"]) == ("churn-model", ["churn-model", NAME])
    assert status["others"][NAME]["serving"]["production"]["version"] == "1"
    assert {each["model"] for each in served.read("history", "--model", NAME)["releases"]} == {NAME}
    assert [each["version"] for each in served.read("versions", "--model", NAME)["versions"]] == ["1"]
    listed = {each["name"]: each for each in served.read("model", "list")["models"]}
    assert listed["churn-model"]["default"] and listed[NAME]["serving"] == {"staging": "1", "production": "1"}
    ended = served.slipway("status", "--model", "nobody")
    assert ended.returncode == 2 and "no model 'nobody'" in ended.stderr
    served.await_content()
    shown = {each["id"]: each["detail"] for each in served.read("doctor")["invariants"]}
    assert f"{NAME}: version 1 was approved by bob" in shown["I1"]


def test_an_up_finds_both_and_a_killed_supervisor_of_the_second_comes_back(served: Installation) -> None:
    served.kill(f"supervisor-staging-{NAME}")
    served.done("up")
    served.wait_for(lambda: serving(served, NAME, Environment.STAGING) == "1", "staging of the second model")
    assert serving(served, NAME) == "1"


def test_a_removed_model_is_archived_and_added_again_with_its_history(served: Installation, project: Path) -> None:
    with asking(served) as clients:
        assert served.done("model", "remove", NAME).strip() == f"Archived {NAME}"
    assert (clients.lost, served.process(f"supervisor-production-{NAME}")) == ([], None)
    assert served.read("status")["models"] == ["churn-model"]
    assert served.slipway("promote", "--version", "1", "--model", NAME).returncode == 2
    assert {each["state"] for each in served.read("history", "--model", NAME)["releases"]} == {"superseded"}
    listed = {each["name"]: each for each in served.read("model", "list")["models"]}
    assert (listed[NAME]["state"], listed[NAME]["serving"], listed[NAME]["urls"]) == ("archived", {}, {})
    served.await_content()
    assert served.slipway("model", "remove", "churn-model").returncode == 2

    served.done("model", "add", NAME)
    listed = {each["name"]: each for each in served.read("model", "list")["models"]}
    assert listed[NAME]["state"] == "served"
    assert len(served.read("history", "--model", NAME)["releases"]) == 2
    served.done("model", "remove", NAME)
