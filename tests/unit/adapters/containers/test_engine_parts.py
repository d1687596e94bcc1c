"""What is read off an engine's tasks, and what becomes of an installation whose engine goes away."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from docker.errors import NotFound

from pipelines.adapters.containers.engine_parts import EngineParts
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import TargetUnavailable

ANSWERS = {
    "version": {"ApiVersion": "1.41"},
    "services": [],
    "json": [{"Id": "c1", "Names": ["/ours-edge"], "Created": 1, "Labels": {}}],
}


@pytest.fixture
def dropping() -> Iterator[str]:
    """The URL of an engine that hangs up instead of removing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(ANSWERS[self.path.partition("?")[0].rpartition("/")[2]]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_DELETE(self) -> None:
            self.connection.close()

        def log_message(self, *words: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_an_engine_that_goes_away_while_all_is_removed_is_a_refusal_that_names_what_is_left(dropping: str) -> None:
    with pytest.raises(TargetUnavailable, match="ours-edge can't be removed") as refused:
        EngineParts(DockerEngine(dropping), "ours").remove_all()
    assert "do it again" in refused.value.next


class Tasks:
    """An engine with the service `ours-api`, which is to have `replicas` and has had these tasks, oldest first."""

    def __init__(self, *tasks: tuple[str, str], replicas: int = 1, nodes: int = 1) -> None:
        self._tasks = tasks
        self._nodes = nodes
        template = {"ContainerSpec": {"Image": "sha256:one"}}
        self.spec: dict[str, Any] = {
            "Name": "ours-api",
            "Labels": {"slipway.slot": "live"},
            "Mode": {"Replicated": {"Replicas": replicas}},
            "TaskTemplate": template,
        }

    @contextmanager
    def api(self) -> Iterator["Tasks"]:
        yield self

    def services(self, filters: object) -> list[dict[str, Any]]:
        return [{"ID": "s", "Version": {"Index": 1}, "Spec": self.spec}]

    def tasks(self, filters: object) -> list[dict[str, Any]]:
        return [
            {"ID": str(number), "CreatedAt": f"{number}", "Status": {"State": state, "Err": why}}
            for number, (state, why) in enumerate(self._tasks)
        ]

    def nodes(self) -> list[object]:
        return [None] * self._nodes

    def update_service(self, *_: object, task_template: object, mode: object, **more: object) -> None:
        self.spec |= {"TaskTemplate": task_template, "Mode": mode}


def parts(engine: Tasks) -> EngineParts:
    return EngineParts(engine, "ours")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tasks", "told"),
    [
        ([("failed", "exit 1"), ("starting", "")], {"ours-api": "starting: exit 1"}),
        ([("pending", "no node")], {"ours-api": "pending: no node"}),
        ([("failed", "exit 1"), ("running", "")], {}),
        # What has done its work is not started again.
        ([("failed", "exit 4"), ("complete", "")], {}),
    ],
)
def test_what_does_not_run_is_told_with_why(tasks: list[tuple[str, str]], told: dict[str, str]) -> None:
    assert parts(Tasks(*tasks)).troubles() == told


def test_what_failed_long_ago_and_what_is_to_rest_is_not_told() -> None:
    engine = Tasks(("failed", "exit 1"), ("shutdown", ""), ("preparing", ""))
    assert parts(engine).troubles(besides=parts(engine).ended()) == {}
    assert parts(Tasks(("failed", "exit 137"), replicas=0)).troubles() == {}
    again = Tasks(("failed", "exit 1"), ("failed", "exit 2"), ("preparing", ""))
    assert parts(again).troubles(besides={"0"}) == {"ours-api": "preparing: exit 2"}


def test_a_slot_without_a_release_runs_what_every_node_can_pull() -> None:
    for nodes, image in ((1, "sha256:one"), (2, "name@sha256:two")):
        engine = Tasks(("running", ""), nodes=nodes)
        parts(engine).share_image("sha256:one", "name@sha256:two")
        assert engine.spec["TaskTemplate"]["ContainerSpec"]["Image"] == image
    engine = Tasks(("running", ""), nodes=2)
    parts(engine).share_image("sha256:another", "name@sha256:two")
    assert engine.spec["TaskTemplate"]["ContainerSpec"]["Image"] == "sha256:one"


class Leaving(Tasks):
    """An engine whose one service is gone when somebody asks for its tasks, or lists services once more."""

    def __init__(self, *tasks: tuple[str, str], nodes: int = 1) -> None:
        super().__init__(*tasks, nodes=nodes)
        self._listed = False

    def services(self, filters: object) -> list[dict[str, Any]]:
        listed, self._listed = self._listed, True
        return [] if listed else super().services(filters)

    def tasks(self, filters: object) -> list[dict[str, Any]]:
        raise NotFound("service s not found")


def test_a_service_that_goes_while_it_is_looked_at_ails_nothing() -> None:
    assert parts(Leaving()).troubles() == {}
    assert parts(Leaving()).ended() == set()
    parts(Leaving(nodes=2)).share_image("sha256:one", "name@sha256:two")


class Remains:
    """An engine in which a killed `up` and an executor have left something, and whose executor is as its task says."""

    def __init__(self, executor: str | None) -> None:
        self._executor = executor
        self.left = {"stranger": "control", "evaluation-job": "job", "load-7-files": "load"}

    @contextmanager
    def api(self) -> Iterator["Remains"]:
        yield self

    def services(self, filters: object) -> list[dict[str, Any]]:
        names = ["ours-executor"] if self._executor else []
        return [
            {"ID": name, "CreatedAt": "2020-01-01T00:00:00Z", "Spec": {"Name": name, "Labels": {}}} for name in names
        ]

    def tasks(self, filters: object) -> list[dict[str, Any]]:
        return [{"Status": {"State": state}} for state in ("shutdown", self._executor)]

    def containers(self, **filters: object) -> list[dict[str, Any]]:
        made = datetime.now(UTC).timestamp()
        return [
            {"Id": name, "Names": [f"/{name}"], "Labels": {"slipway.role": role}, "Created": made}
            for name, role in self.left.items()
        ]

    def configs(self, **filters: object) -> list[dict[str, Any]]:
        return []

    networks = configs

    def remove_service(self, id: str) -> None:
        raise AssertionError(f"{id} was removed")

    def remove_container(self, id: str, *, force: bool, v: bool) -> None:
        # The files of a job are in a volume that has no name.
        assert force and v
        del self.left[id]


@pytest.mark.parametrize(
    ("executor", "left"),
    [
        # One that still starts has its container, and may be at work.
        ("running", {"evaluation-job", "load-7-files"}),
        ("starting", {"evaluation-job", "load-7-files"}),
        ("failed", set()),
        (None, set()),
    ],
)
def test_a_repair_leaves_the_jobs_and_load_runs_of_an_executor_that_may_be_at_work(
    executor: str | None, left: set[str]
) -> None:
    engine = Remains(executor)
    removed = EngineParts(engine, "ours").remove_unknown((), datetime.now(UTC) - timedelta(hours=1))  # type: ignore[arg-type]
    assert engine.left.keys() == left
    assert set(removed) == {"stranger", "evaluation-job", "load-7-files"} - left
