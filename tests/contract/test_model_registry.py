"""What every model registry must do, asked of the fake and of a real MLflow."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import onnx
import pytest
from mlflow import MlflowClient

from pipelines.adapters.mlflow.registry import MlflowModelRegistry
from pipelines.adapters.mlflow.versions import MlflowVersions
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import NotServable, RegistryUnavailable, UnknownVersion, UsageError
from pipelines.packaging.mlmodel import read_mlmodel
from pipelines.ports import ModelRegistry
from tests.support.servers.mlflow_trainer import MlflowTrainer
from tests.support.world import trained
from tests.support.world.fakes import FakeModelRegistry

pytestmark = pytest.mark.timeout(180)

TYPES = {"height": "double", "age": "long", "soil": "string"}


@dataclass
class Bench:
    """A registry, and the trainer's side of it."""

    registry: ModelRegistry
    register: Callable[..., RegisteredVersion]
    model: str
    delete: Callable[[str, str], None]

    def add(self, onnx_model: bytes | None, types: dict[str, str] = TYPES) -> RegisteredVersion:
        """Register one version of `model`."""
        return self.register(
            self.model,
            onnx=onnx_model,
            input_types=types,
            artifacts={"slipway/evaluation.parquet": b"rows"},
            run_tags={"team": "plants"},
        )


@pytest.fixture(scope="module")
def model_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return trained.trained(tmp_path_factory.mktemp("trained")).onnx_model.read_bytes()


@pytest.fixture(params=["fake", "mlflow"])
def bench(request: pytest.FixtureRequest) -> Bench:
    model = f"plant-{uuid4().hex[:8]}"
    if request.param == "fake":
        fake = FakeModelRegistry()
        return Bench(fake, fake.register, model, fake.delete)
    uri = request.getfixturevalue("mlflow_uri")
    return Bench(MlflowModelRegistry(uri), MlflowTrainer(uri).register, model, MlflowClient(uri).delete_model_version)


def test_a_version_is_found_by_its_number_and_as_the_newest(bench: Bench, model_bytes: bytes) -> None:
    first, second = bench.add(model_bytes), bench.add(model_bytes)
    assert (first.version, second.version) == ("1", "2")
    assert bench.registry.version(bench.model, "1").run_id == first.run_id
    assert bench.registry.newest(bench.model).version == "2"


def test_unknown_versions_and_models_are_named_so(bench: Bench, model_bytes: bytes) -> None:
    with pytest.raises(UnknownVersion):
        bench.registry.newest(bench.model)
    bench.add(model_bytes)
    with pytest.raises(UnknownVersion):
        bench.registry.version(bench.model, "99")
    with pytest.raises(UnknownVersion):
        bench.registry.run_tags("0" * 32)
    with pytest.raises(UnknownVersion):
        bench.registry.move_alias(bench.model, "staging", "99")


@pytest.mark.parametrize("version", ["0", "-1", "latest", "1/../2", ""])
def test_what_is_no_version_number_is_a_usage_error(bench: Bench, model_bytes: bytes, version: str) -> None:
    bench.add(model_bytes)
    with pytest.raises(UsageError):
        bench.registry.version(bench.model, version)


def test_the_model_comes_with_its_signature(bench: Bench, model_bytes: bytes, tmp_path: Path) -> None:
    bench.registry.fetch_model(bench.add(model_bytes), tmp_path)
    name, types = read_mlmodel(tmp_path, "version 1")
    assert onnx.load(str(tmp_path / name)) == onnx.load_model_from_string(model_bytes)
    assert types == TYPES
    assert "onnxruntime" in (tmp_path / "requirements.txt").read_text()


def test_a_version_without_onnx_or_signature_is_told_by_its_files(
    bench: Bench, model_bytes: bytes, tmp_path: Path
) -> None:
    for name, version in (("none", bench.add(None)), ("unsigned", bench.add(model_bytes, {}))):
        bench.registry.fetch_model(version, tmp_path / name)
        with pytest.raises(NotServable, match=r"has no ONNX model|has no signature"):
            read_mlmodel(tmp_path / name, "version 1")


def test_artifacts_and_tags_of_a_run_are_read(bench: Bench, model_bytes: bytes, tmp_path: Path) -> None:
    run_id = bench.add(model_bytes).run_id
    path = bench.registry.fetch_artifact(run_id, "slipway/evaluation.parquet", tmp_path)
    assert path == tmp_path / "slipway" / "evaluation.parquet"
    assert path.read_bytes() == b"rows"
    assert bench.registry.fetch_artifact(run_id, "slipway/none.parquet", tmp_path) is None
    assert bench.registry.fetch_artifact(run_id, "none/at/all", tmp_path) is None
    assert bench.registry.run_tags(run_id)["team"] == "plants"


def test_an_alias_moves_and_goes(bench: Bench, model_bytes: bytes) -> None:
    bench.add(model_bytes)
    bench.add(model_bytes)
    assert bench.registry.aliases(bench.model) == {}
    assert bench.registry.aliases("no-such-model") == {}
    bench.registry.move_alias(bench.model, "production", "1")
    bench.registry.move_alias(bench.model, "staging", "2")
    bench.registry.move_alias(bench.model, "production", "2")
    assert bench.registry.aliases(bench.model) == {"production": "2", "staging": "2"}
    bench.registry.move_alias(bench.model, "production", None)
    bench.registry.move_alias(bench.model, "production", None)
    assert bench.registry.aliases(bench.model) == {"staging": "2"}


def test_an_alias_goes_with_its_version_and_can_not_come_back(bench: Bench, model_bytes: bytes) -> None:
    bench.add(model_bytes)
    bench.add(model_bytes)
    bench.registry.move_alias(bench.model, "production", "1")
    bench.registry.move_alias(bench.model, "staging", "2")
    bench.delete(bench.model, "1")
    assert bench.registry.aliases(bench.model) == {"staging": "2"}
    assert bench.registry.newest(bench.model).version == "2"
    with pytest.raises(UnknownVersion):
        bench.registry.version(bench.model, "1")
    for alias in ("production", "staging"):
        with pytest.raises(UnknownVersion):
            bench.registry.move_alias(bench.model, alias, "1")
    bench.registry.move_alias(bench.model, "staging", None)
    assert bench.registry.aliases(bench.model) == {}


def test_tags_of_a_version_are_kept(bench: Bench, model_bytes: bytes) -> None:
    bench.add(model_bytes)
    bench.registry.set_tag(bench.model, "1", "lifecycle", "Candidate")
    bench.registry.set_tag(bench.model, "1", "lifecycle", "Staging")
    assert bench.registry.version(bench.model, "1").tags == {"lifecycle": "Staging"}


def test_a_description_is_set_and_read(bench: Bench, model_bytes: bytes) -> None:
    assert bench.add(model_bytes).description == ""
    for text in ("Ask **Carol** first.\n\n- a list", "\N{SEEDLING}" * 1000, ""):
        bench.registry.set_description(bench.model, "1", text)
        assert bench.registry.version(bench.model, "1").description == text
    with pytest.raises(UnknownVersion):
        bench.registry.set_description(bench.model, "99", "none")


def test_evidence_lies_on_the_run(bench: Bench, model_bytes: bytes, tmp_path: Path) -> None:
    version = bench.add(model_bytes)
    bench.registry.attach_evidence(version, {"report.json": b"{}", "report.html": b"<p>"})
    path = bench.registry.fetch_artifact(version.run_id, "evidence/report.json", tmp_path)
    assert path is not None
    assert path.read_bytes() == b"{}"


def test_aliases_are_read_and_moved_whatever_a_version_says(mlflow_uri: str) -> None:
    client, model = MlflowClient(mlflow_uri), f"plant-{uuid4().hex[:8]}"
    client.create_registered_model(model)
    # As MLflow writes them these are six megabytes.
    tags = {f"tag-{number}": "\N{SEEDLING}" * 5000 for number in range(100)}
    logged = client.create_logged_model(client.create_experiment(model)).model_id
    for _ in range(2):
        client.create_model_version(model, f"models:/{logged}", model_id=logged, tags=tags)
    registry, listed = MlflowModelRegistry(mlflow_uri), MlflowVersions(mlflow_uri)
    assert registry.aliases(model) == {}
    registry.move_alias(model, "production", "1")
    registry.move_alias(model, "staging", "2")
    registry.move_alias(model, "production", "2")
    assert registry.aliases(model) == listed.aliases(model) == {"production": "2", "staging": "2"}
    registry.move_alias(model, "staging", None)
    assert registry.aliases(model) == listed.aliases(model) == {"production": "2"}
    with pytest.raises(RegistryUnavailable, match=r"says more than 4,194,304 bytes of version 1 of plant-") as refusal:
        registry.version(model, "1")
    assert "tags" in refusal.value.next


def test_evidence_of_two_versions_of_one_run_is_kept_apart(mlflow_uri: str, model_bytes: bytes, tmp_path: Path) -> None:
    model = f"plant-{uuid4().hex[:8]}"
    first = MlflowTrainer(mlflow_uri).register(
        model, onnx=model_bytes, input_types=TYPES, artifacts={}, run_tags={"team": "plants"}
    )
    client, model_id = MlflowClient(mlflow_uri), first.source.removeprefix("models:/")
    assert client.create_model_version(model, first.source, run_id=first.run_id, model_id=model_id).version == "2"
    location = client.get_logged_model(model_id).artifact_location.removeprefix("mlflow-artifacts:")
    logged = f"{mlflow_uri}/api/2.0/mlflow-artifacts/artifacts{location}"
    registry = MlflowModelRegistry(mlflow_uri)
    first, second = registry.version(model, "1"), registry.version(model, "2")
    for version in (first, second, first):
        registry.attach_evidence(version, {"report.json": version.version.encode()})
    for place, content in (("evidence", b"1"), (f"evidence/{model}-v2", b"2")):
        path = registry.fetch_artifact(first.run_id, f"{place}/report.json", tmp_path)
        assert path is not None
        assert path.read_bytes() == content
        assert httpx.get(f"{logged}/{place}/report.json", trust_env=False).content == content


def test_a_run_that_did_not_log_the_model_is_refused(mlflow_uri: str, model_bytes: bytes, tmp_path: Path) -> None:
    trainer, model, client = MlflowTrainer(mlflow_uri), f"plant-{uuid4().hex[:8]}", MlflowClient(mlflow_uri)
    own, other = (
        trainer.register(model, onnx=model_bytes, input_types=TYPES, artifacts={"x/MLmodel": b"{}"}, run_tags={})
        for _ in range(2)
    )
    registry = MlflowModelRegistry(mlflow_uri)
    logged = client.get_logged_model(own.source.removeprefix("models:/")).artifact_location
    folder = client.get_run(own.run_id).info.artifact_uri + "/x"
    for number, source in enumerate((own.source, f"runs:/{own.run_id}/onnx", logged, folder)):
        for run_id, accepted in ((own.run_id, True), ("", True), (other.run_id, False)):
            into = tmp_path / f"{number}-{run_id}"
            version = RegisteredVersion(model, "1", run_id, source)
            if accepted:
                registry.fetch_model(version, into)
                assert (into / "MLmodel").is_file()
            else:
                with pytest.raises(NotServable, match=rf"names run {other.run_id}, which did not log its model"):
                    registry.fetch_model(version, into)
                assert not into.exists()


def test_what_a_run_logs_later_is_no_part_of_a_version(mlflow_uri: str, tmp_path: Path) -> None:
    model, client = f"plant-{uuid4().hex[:8]}", MlflowClient(mlflow_uri)
    client.create_registered_model(model)
    run = client.create_run(client.create_experiment(model)).info
    MlflowTrainer(mlflow_uri).log_file(run.run_id, "x/MLmodel", b"own")
    versions = [client.create_model_version(model, f"runs:/{run.run_id}/x", run_id=run.run_id)]
    later = client.create_logged_model(run.experiment_id, name="x", source_run_id=run.run_id).model_id
    (tmp_path / "MLmodel").write_bytes(b"later")
    client.log_model_artifact(later, str(tmp_path / "MLmodel"))
    versions.append(client.create_model_version(model, f"runs:/{run.run_id}/x", run_id=run.run_id))
    registry = MlflowModelRegistry(mlflow_uri)
    for version, content in zip(versions, (b"own", b"later"), strict=True):
        registry.fetch_model(registry.version(model, version.version), tmp_path / version.version)
        assert (tmp_path / version.version / "MLmodel").read_bytes() == content


def test_an_absent_registry_is_told_so() -> None:
    fake = FakeModelRegistry()
    fake.down = True
    # Port 9 is discard: nobody listens.
    for registry in (fake, MlflowModelRegistry("http://127.0.0.1:9", timeout_s=1.0)):
        for ask in (registry.newest, registry.aliases):
            with pytest.raises(RegistryUnavailable):
                ask("plant-model")


def test_versions_are_listed_page_by_page_and_found_one_by_one(
    mlflow_uri: str, model_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.adapters.mlflow.versions._PAGE", 2)
    model = f"plant-{uuid4().hex[:8]}"
    registry, trainer = MlflowModelRegistry(mlflow_uri), MlflowTrainer(mlflow_uri)
    first = trainer.register(model, onnx=model_bytes, input_types=TYPES, artifacts={}, run_tags={})
    client = MlflowClient(mlflow_uri)
    for number in range(2, 12):
        tags = {"spam": "x" * 100_000} if number == 7 else None
        client.create_model_version(model, first.source, tags=tags, model_id=first.source.removeprefix("models:/"))
    registry.move_alias(model, "production", "10")

    listed = MlflowVersions(mlflow_uri)
    found, more = listed.versions(model)
    assert ([row["version"] for row in found], more) == ([str(number) for number in range(11, 0, -1)], False)
    assert {row["version"]: row["aliases"] for row in found if row["aliases"]} == {"10": ["production"]}
    assert {row["version"] for row in found if row["cut"]} == {"7"}
    assert [row["version"] for row in listed.versions(model, before=3)[0]] == ["2", "1"]
    assert [listed.resolve(model, version) for version in (None, "1", "9")] == ["11", "1", "9"]
    with pytest.raises(UnknownVersion, match="has no version 12; the newest is 11"):
        listed.resolve(model, "12")
    assert listed.versions(f"{model}-none") == ([], False)
