"""The clients of docs/clients.md, each as it stands there, ask a replica and an MLflow of the example's model."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
from mlflow import MlflowClient

from pipelines.adapters.mlflow.registry import MlflowModelRegistry
from pipelines.adapters.mlflow.training_run import register
from pipelines.adapters.storage.bundle_store import BundleStore
from pipelines.packaging.package import make_bundle
from pipelines.ports import JobBounds
from pipelines.training.prepare import prepare
from pipelines.training.score import score
from pipelines.training.train import train
from pipelines.training.workspace import Workspace
from tests.support.world.fakes import FakeJobs
from tests.support.world.replicas import ReplicaProcess, listening, release
from tests.support.world.typed_bundles import FEATURES, ROW, answer_of, make_typed_bundle

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType")
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "clients.md"
_SECTION = re.compile(r"^## (?P<title>.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```(?P<language>sh|python)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
# Left behind by a block for the test: what it has found.
_KEEP = """
import json as _json
_found = {name: globals().get(name) for name in ("answer", "answers", "many")}
_plain = {
    name: each.reset_index(drop=True).to_dict("records") if hasattr(each, "to_dict") and hasattr(each, "index")
    else each.to_dict() if hasattr(each, "to_dict") else each
    for name, each in _found.items()
}
open("found.json", "w").write(_json.dumps(_plain))
"""


def blocks(title: str) -> list[tuple[str, str]]:
    """Return language and code of each block of a section."""
    parts = _SECTION.split(PAGE.read_text(encoding="utf-8"))
    text = parts[parts.index(title) + 1]
    return [(found["language"], found["code"]) for found in _BLOCK.finditer(text)]


@dataclass(frozen=True)
class Reader:
    """Somebody who follows the page, in a folder that has the example's data."""

    folder: Path
    service: str
    registry: str

    def follow(self, title: str) -> tuple[list[str], dict[str, Any]]:
        """Run the blocks of a section; return what each wrote to stdout, and what the last Python block found."""
        said = []
        for language, code in blocks(title):
            own = code.replace("http://127.0.0.1:8001", self.service).replace("http://127.0.0.1:5000", self.registry)
            assert own != code or "127.0.0.1" not in code
            command = ["bash", "-euo", "pipefail", "-c", own]
            if language == "python":
                command = [sys.executable, "-W", "error::SyntaxWarning", "-c", own + _KEEP]
            said.append(self.run(command))
        found = self.folder / "found.json"
        return said, json.loads(found.read_text()) if found.exists() else {}

    def run(self, command: list[str]) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            command, cwd=self.folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120.0,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def reader(mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Train and register the example, have it in production, and serve it."""
    tree = Workspace(tmp_path_factory.mktemp("example"))
    shutil.copytree(ROOT / "data/raw", tree.root / "data/raw")
    shutil.copy(ROOT / "model.yaml", tree.root)
    for stage in (prepare, train, score):
        stage(tree)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = register(tree, mlflow_uri, tree.root)
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    MlflowClient(mlflow_uri).set_registered_model_alias("churn-model", "production", made["model_version"])
    registry, store, root = MlflowModelRegistry(mlflow_uri), BundleStore(tree.root / "bundles"), tree.root
    bounds = JobBounds(wall_s=60, memory_mb=2048)
    packaged = make_bundle(
        registry, store, lambda task, files: FakeJobs(root / "jobs").run(task, files, bounds),
        registry.newest("churn-model"), pinned=None, fallback_evaluation=lambda: None, workdir=root / "work",
    )  # fmt: skip
    environ = release(store.path(packaged.digest), packaged.digest) | {"SLIPWAY_MODEL": "churn-model"}
    with listening() as shared, ReplicaProcess(root, environ, shared) as replica:
        replica.until_alive()
        yield Reader(tree.root, replica.url, mlflow_uri)


@pytest.fixture(scope="module")
def asked(reader: Reader) -> list[str]:
    """Follow the first section, which leaves the row that others send; return what was answered."""
    return reader.follow("curl")[0]


def plain(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: answer[key] for key in ("prediction", "probability")}


def test_curl_is_answered_as_the_page_says(asked: list[str], reader: Reader) -> None:
    row, batch = map(json.loads, asked)
    shown = re.search(r"The answer is `(\{.*?\})`", PAGE.read_text(encoding="utf-8"))
    assert shown is not None
    expected = json.loads(shown[1].replace("...,", ","))
    assert row.keys() == expected.keys()
    assert (row["prediction"], row["model"], row["version"]) == (expected["prediction"], "churn-model", "1")
    assert row["probability"] == pytest.approx(expected["probability"], abs=1e-3)
    assert batch["predictions"] == [pytest.approx(plain(row), abs=1e-6)] * 2


def test_requests_finds_what_curl_does(asked: list[str], reader: Reader) -> None:
    said, found = reader.follow("requests")
    assert plain(found["answer"]) == plain(json.loads(asked[0]))
    assert said == [f"{found['answer']['prediction']} {found['answer']['probability']}\n"]


def test_a_frame_is_answered_the_same_by_the_service_and_by_mlflow(asked: list[str], reader: Reader) -> None:
    _, by_service = reader.follow("pandas")
    assert len(by_service["answers"]) == 7043
    assert by_service["answers"][0] == pytest.approx(plain(json.loads(asked[0])), abs=1e-6)
    said, by_mlflow = reader.follow("MLflow")
    assert [each["prediction"] for each in by_mlflow["answers"]] == [
        each["prediction"] for each in by_service["answers"]
    ]
    for one, other in zip(by_mlflow["answers"], by_service["answers"], strict=True):
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)
    (answer,) = json.loads(said[1].splitlines()[-1])["predictions"]
    assert answer == pytest.approx(plain(json.loads(asked[0])), abs=1e-6)


def test_the_client_that_is_generated_anew_asks_and_is_answered(asked: list[str], reader: Reader) -> None:
    said, found = reader.follow("A generated client")
    assert found["answer"].keys() == json.loads(asked[0]).keys()
    assert found["many"]["predictions"] == [pytest.approx(plain(found["answer"]), abs=1e-6)] * 2
    assert found["answer"]["probability"] < json.loads(asked[0])["probability"]
    assert said[1] == f"{found['answer']['prediction']} {found['answer']['probability']}\n"


GENERATED = """
import datetime, json, sys
from client import Client
from client.api.prediction import predict, predict_batch
from client.models import Batch, ErrorReply, Row

with Client(base_url=sys.argv[1], raise_on_unexpected_status=True) as client:
    row = Row(
        label=-3.0, count=2, net_weight=0.5, flag=True, kind="b", words="hello", day=datetime.date(2024, 1, 3),
        at=datetime.datetime(2024, 1, 1, 0, 0, 7, tzinfo=datetime.timezone.utc),
    )
    assert Row.from_dict(row.to_dict()) == row
    some = Row(label=1.0, count=None)
    many = predict_batch.sync(client=client, body=Batch(rows=[row, some]))
    refused = predict.sync(client=client, body=Row(label=1.0, kind="c", net_weight=-6))
    assert isinstance(refused, ErrorReply)
    print(json.dumps({
        "row": predict.sync(client=client, body=row).to_dict(), "many": many.to_dict(), "refused": refused.to_dict(),
    }))
"""
# Of signs only, and alike in letters: no names of a program tell them apart.
CATEGORIES = ["a", "b", "<50", ">50", "a b", "a-b", "A", "it's", 'say "b"', "\u00e4", "1"]


# The example of the page is a binary one.
@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_a_generated_client_knows_every_type_and_every_task(task: str, tmp_path: Path) -> None:
    features = [each | ({"categories": CATEGORIES} if each["name"] == "kind" else {}) for each in FEATURES]
    path, digest = make_typed_bundle(tmp_path / "bundle", task, changes={"features": features})
    environ = release(path, digest, version="3") | {"SLIPWAY_MODEL": "typed-model"}
    with listening() as shared, ReplicaProcess(tmp_path, environ, shared) as replica:
        replica.until_alive()
        reader = Reader(tmp_path, replica.url, "")
        (tmp_path / "generator.yaml").write_text("literal_enums: true\n")
        reader.run(
            ["openapi-python-client", "generate", "--url", f"{replica.url}/openapi.json", "--config", "generator.yaml",
             "--meta", "none", "--output-path", "client", "--fail-on-warning"]
        )  # fmt: skip
        found = json.loads(reader.run([sys.executable, "-c", GENERATED, replica.url]))
        expected = httpx.post(f"{replica.url}/predict", json={"label": 1.0, "kind": "c", "net weight": -6}).json()

    tail = {"model": "typed-model", "version": "3"}
    assert {key: each for key, each in found["row"].items() if key != "request_id"} == answer_of(task, ROW) | tail
    assert found["many"]["predictions"] == [answer_of(task, ROW), answer_of(task, {"label": 1.0})]
    assert [each["field"] for each in found["refused"]["error"]["fields"]] == ["net weight", "kind"]
    assert found["refused"]["error"]["fields"] == expected["error"]["fields"]


def test_each_section_with_a_client_is_followed_by_a_test() -> None:
    titles = _SECTION.findall(PAGE.read_text(encoding="utf-8"))
    assert [title for title in titles if blocks(title)] == [
        "curl",
        "requests",
        "pandas",
        "A generated client",
        "MLflow",
    ]
