"""Whatever a file of ours has become, its reader returns a value or one of our refusals, and nothing else."""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from pydantic import ValidationError

from app.errors import BundleError
from app.model.bundle import read_bundle
from loadtests.plan.plan import PlanError
from loadtests.plan.reading import read_plan, read_rows
from pipelines.adapters.containers.infra_file import read_choices
from pipelines.adapters.load.files import read_result
from pipelines.adapters.local.private_json import read_private
from pipelines.adapters.local.supervisor.home import SupervisorHome
from pipelines.adapters.mlflow.answers import Versions
from pipelines.adapters.storage.checkpoints_file import FileCheckpoints
from pipelines.domain.backup import Manifest
from pipelines.domain.policy import Policy
from pipelines.domain.release import Endpoint, Environment
from pipelines.domain.report import Report
from pipelines.errors import SlipwayError
from pipelines.evaluation.gates.service.slo import RouteRun, judge_run
from pipelines.evaluation.offline import OfflineAnswer
from pipelines.evaluation.reports.pages import render_html
from pipelines.packaging.confined import PackagingTask, Parsed, ask
from pipelines.packaging.mlmodel import read_mlmodel
from pipelines.packaging.snapshot import read_snapshot
from pipelines.settings.installation import FILE, InstallationRecord
from pipelines.settings.settings import ROOT
from pipelines.settings.terraform_outputs import read_stack
from pipelines.settings.tokens import read_tokens
from pipelines.training.lineage import drop_spoiled
from pipelines.training.model_file import ModelFile
from tests.support.world.bundles import make_bundle, read_description
from tests.support.world.load_plans import PLAN
from tests.support.world.mutated import BOUNDED, HOSTILE, broken, mutated
from tests.support.world.records import policy, report
from tests.support.world.stacks import stack_body

RECORD = {
    "pid": 1,
    "socket": "/s",
    "epoch": 3,
    "ports": {"live": 1},
    "slots": {"live": {"serving": None, "wanted": None, "phase": "empty", "failure": None, "last_log": ["x"]}},
    "processes": [{"name": "a", "pid": 1, "born": "b", "worker": 2, "worker_born": "c", "socket": "/s"}],
}
POLICY = yaml.safe_load((ROOT / "policy.yaml").read_text())
MODEL = yaml.safe_load((ROOT / "model.yaml").read_text())
INFRA = {"environments": {"production": {"replicas": 2}}, "limits": {"api": {"cpus": 1}}, "retention_days": 3}


def supervisor(path: Path) -> Any:
    home = SupervisorHome(path.parent, Endpoint("toy-model", Environment.STAGING))
    home.record_path.write_bytes(path.read_bytes())
    return home.load()


def tokens(path: Path) -> Any:
    path.chmod(0o600)
    return read_tokens(path)


def installation(path: Path) -> Any:
    path.rename(path.with_name(FILE))
    return InstallationRecord.read(path.parent)


RESULT = {
    "verdict": "passed",
    "via": "direct",
    "checks": [
        {
            "name": "p99",
            "about": "target",
            "judged": True,
            "verdict": "passed",
            "message": "PASS",
            "observed": 1.0,
            "interval": [0.5, None],
            "limit": 2.0,
        }
    ],
    "raw": [{"file": "a.parquet", "sha256": "sha256:0"}],
}
MLMODEL = {
    "flavors": {"onnx": {"data": "model.onnx"}},
    "signature": {"inputs": json.dumps([{"name": "age", "type": "long"}])},
}


def loaded(path: Path) -> Any:
    """Read a load run's result, and make of it what the gate does."""
    return judge_run(RouteRun("slo", read_result(path)), demo=False)


def lock(path: Path) -> Any:
    path.rename(path.with_name("dvc.lock"))
    return drop_spoiled(path.parent)


def mlmodel(path: Path) -> Any:
    path.rename(path.with_name("MLmodel"))
    path.with_name("model.onnx").touch()
    return read_mlmodel(path.parent, "version 1")


FILES: dict[str, tuple[Any, Callable[[Path], Any]]] = {
    "plan": (PLAN, read_plan),
    "rows": ([{"x": 1}], read_rows),
    "checkpoints": ({"seq": 1, "hash": "a"}, lambda path: FileCheckpoints(path).checkpoints()),
    "infra": (INFRA, lambda path: read_choices(path, path)),
    "installation": ({"id": "a", "settings": {"b": "c"}, "model": "d"}, installation),
    "load result": (RESULT, loaded),
    "lock": ({"stages": {"a": {"outs": [{"path": "b", "md5": "0" * 32}]}}}, lock),
    "mlmodel": (MLMODEL, mlmodel),
    "private": ({"id": "a"}, read_private),
    "supervisor": (RECORD, supervisor),
    "tokens": ({"alice": "a", "bob": "b"}, tokens),
}


def refuses_or_reads(read: Callable[[Path], Any], path: Path, content: bytes) -> None:
    path.write_bytes(content + b"\n")
    try:
        read(path)
    except (SlipwayError, PlanError) as error:
        assert str(error)
        # What a refusal says is shown and stored.
        assert len(str(error)) < 100_000


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    document, read = FILES[name]

    @BOUNDED
    @given(broken(document))
    def check(content: bytes) -> None:
        refuses_or_reads(read, tmp_path / "file", content)

    check()
    for content in HOSTILE:
        refuses_or_reads(read, tmp_path / "file", content)


def test_a_broken_description_of_a_model_is_read_or_refused(tmp_path: Path) -> None:
    @BOUNDED
    @given(mutated(MODEL))
    def check(body: Any) -> None:
        refuses_or_reads(ModelFile.load, tmp_path / "model.yaml", json.dumps(body).encode())

    check()


@BOUNDED
@given(mutated(POLICY))
def test_a_broken_policy_is_read_or_refused(body: Any) -> None:
    try:
        Policy.read(body)
    except SlipwayError as error:
        assert error.exit_code == 2


@BOUNDED
@given(mutated(report(policy=policy())))
def test_a_broken_report_is_read_or_refused(body: Any) -> None:
    if not isinstance(body, dict):
        return
    try:
        read = Report.read(body)
        render_html(read, read.digest)
    except SlipwayError as error:
        assert error.exit_code == 2


ANSWERS: dict[str, tuple[Any, Any]] = {
    "packaging": ({"model_file": "a", "rows": [{"x": 1}], "read": None}, Parsed),
    "gates": ({"results": [{"name": "digest", "verdict": "passed", "message": "PASS"}]}, OfflineAnswer),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_broken_answer_of_a_job_is_read_or_refused(name: str) -> None:
    document, kind = ANSWERS[name]
    task = PackagingTask(version="1", features=None, predictions=False)

    @BOUNDED
    @given(broken(document) | broken({"refused": {"message": "m", "next": "n"}}))
    def check(content: bytes) -> None:
        try:
            ask(lambda _, files: content, task, {}, kind)
        except SlipwayError as error:
            assert error.exit_code in (2, 4)
            assert len(str(error)) < 5000 and str(error).isprintable()

    check()


@BOUNDED
@given(broken({"model_versions": [{"version": "1", "run_id": "r", "tags": [{"key": "a", "value": "b"}]}]}))
def test_a_broken_answer_of_the_registry_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(ValidationError):
        Versions.model_validate_json(content)


@BOUNDED
@given(broken({"format": 1, "files": [], "formats": {}, "model": "m"}))
def test_a_broken_manifest_is_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(SlipwayError):
        Manifest.read(content)


@BOUNDED
@given(mutated(stack_body()))
def test_broken_outputs_of_terraform_are_read_or_refused(body: Any) -> None:
    try:
        read_stack(body, source="test")
    except SlipwayError as error:
        assert error.exit_code == 2


def test_a_broken_bundle_is_read_or_refused(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path)

    @BOUNDED
    @given(broken(read_description(path)))
    def check(content: bytes) -> None:
        (path / "bundle.json").write_bytes(content)
        try:
            read_bundle(path, digest="sha256:" + hashlib.sha256(content).hexdigest())
        except BundleError as error:
            assert len(str(error)) < 100_000

    check()


SNAPSHOT = {
    "model": "m",
    "target": "y",
    "positive": "Yes",
    "classes": ["No", "Yes"],
    "features": [{"name": "x", "type": "number"}],
    "protected": [],
}


def test_a_broken_snapshot_is_read_or_refused(tmp_path: Path) -> None:
    table = pa.Table.from_pandas(pd.DataFrame({"x": [1.0], "y": ["Yes"]}))

    @BOUNDED
    @given(broken(SNAPSHOT))
    def check(content: bytes) -> None:
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({b"slipway.description": content}), buffer)
        path, whole = tmp_path / "x.parquet", buffer.getvalue()
        for written in (whole, whole[: len(whole) - len(content) % 99]):
            path.write_bytes(written)
            with contextlib.suppress(SlipwayError):
                read_snapshot(path)

    check()
