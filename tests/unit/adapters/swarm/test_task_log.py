"""What an installation shows of its logs; the engine is a server that has the logs it is told."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pipelines.adapters.containers.engine_parts import EngineParts
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.adapters.swarm.task_log import TIMEOUT_S

SILENT = "lost"


class FakeEngine:
    """Two services with the tasks that are added; the node `lost` never sends a log."""

    def __init__(self) -> None:
        self.url = ""
        self.tasks: dict[str, list[dict[str, Any]]] = {"api": [], "mlflow": []}
        self.logs: dict[str, str] = {}
        self.read: list[str] = []
        self.over = threading.Event()

    def add(self, service: str, node: str, state: str, log: str = "", error: str = "") -> None:
        id = f"{service}-{len(self.tasks[service])}"
        status = {"State": state, "Err": error, "ContainerStatus": {"ContainerID": id}}
        self.tasks[service].append({"ID": id, "NodeID": node, "CreatedAt": id, "Status": status})
        self.logs[id] = log

    def answer(self, path: str, query: str) -> bytes:
        if path.endswith("/version"):
            return b'{"ApiVersion": "1.41"}'
        if path.endswith("/logs"):
            return self.log(path.split("/")[-2])
        if path.endswith("/services"):
            return json.dumps(
                [
                    {"ID": name, "Spec": {"Name": name, "Labels": {}, "Mode": {"Replicated": {"Replicas": 1}}}}
                    for name in self.tasks
                ]
            ).encode()
        if path.endswith("/tasks"):
            return json.dumps(next(tasks for name, tasks in self.tasks.items() if name in query)).encode()
        return b"[]"

    def log(self, id: str) -> bytes:
        self.read.append(id)
        if any(task["ID"] == id and task["NodeID"] == SILENT for tasks in self.tasks.values() for task in tasks):
            self.over.wait(60)
        lines = [f"{line}\n".encode() for line in self.logs[id].splitlines()]
        return b"".join(b"\1\0\0\0" + len(line).to_bytes(4, "big") + line for line in lines)


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    fake = FakeEngine()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            body = fake.answer(path, query)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *words: object) -> None:
            """Whoever asked for a log of the silent node has gone."""

    with Server(("127.0.0.1", 0), Handler) as server:
        fake.url = f"tcp://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield fake
        fake.over.set()
        server.shutdown()


def installation(engine: FakeEngine) -> EngineParts:
    return EngineParts(DockerEngine(engine.url), "ours")


def test_the_logs_of_a_service_are_those_of_its_tasks_by_time(engine: FakeEngine) -> None:
    engine.add("api", "one", "failed", "2026-11-21T10:00:01Z first\n2026-11-21T10:00:03Z third\n")
    engine.add("api", "two", "running", "2026-11-21T10:00:02Z second\n2026-11-21T10:00:04Z fourth\n")
    assert installation(engine).last_lines(3) == {"api": ["second", "third", "fourth"], "mlflow": []}


def test_who_explains_reads_the_log_of_what_ails_and_no_other(engine: FakeEngine) -> None:
    engine.add("api", "one", "running", "2026-11-21T10:00:01Z fine\n")
    engine.add("mlflow", "one", "starting", "2026-11-21T10:00:01Z no database\n", error="unhealthy")
    assert installation(engine).explain() == "mlflow starting: unhealthy\n  no database"
    assert engine.read == ["mlflow-0"]


def test_a_node_that_does_not_answer_is_waited_for_once_and_said(engine: FakeEngine) -> None:
    for node in (SILENT, SILENT, "one"):
        engine.add("mlflow", node, "failed", "2026-11-21T10:00:01Z seen\n", error="task: non-zero exit (1)")
    began = time.monotonic()
    told = installation(engine).explain().splitlines()
    assert time.monotonic() - began < 2 * TIMEOUT_S
    assert told[0] == "mlflow failed: task: non-zero exit (1)"
    assert "(a log can't be read: " in told[1] and "timed out" in told[1].lower()
    assert told[2:] == ["  seen"]
