import dataclasses
import json
import math
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

from pipelines.adapters.storage.bundle_store import BundleStore
from pipelines.domain.bundle import Feature, FeatureType, canonical, digest_of
from pipelines.domain.description import Description
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import DeployFailed, JobFailed, NotServable, Refused, UsageError
from pipelines.packaging import onnx_model
from pipelines.packaging.confined import PackagingTask, Parsed, Read, answered, ask
from pipelines.packaging.file_digest import digest_of_file
from pipelines.packaging.golden import answers_of
from pipelines.packaging.onnx_model import CLASSES_KEY, MAX_BYTES, OnnxModel, ServedModel
from pipelines.packaging.package import Packaged, kept_predictions, make_bundle
from pipelines.packaging.reading import read_predictions
from pipelines.packaging.snapshot import read_snapshot, write_snapshot
from pipelines.ports import JobBounds
from pipelines.training.workspace import Workspace
from tests.support.world import trained
from tests.support.world.bad_files import foreign_model, two_models_in_one
from tests.support.world.fakes import FakeJobs, FakeModelRegistry

BOUNDS = JobBounds(wall_s=60, memory_mb=2048)
TYPES = {"height": "double", "age": "long", "potted": "integer", "soil": "string"}


@dataclass
class Desk:
    """Takes versions in from a fake registry."""

    root: Path
    workspace: Workspace
    registry: FakeModelRegistry = field(default_factory=FakeModelRegistry)

    @property
    def jobs(self) -> FakeJobs:
        """What reads files, in this process."""
        return FakeJobs(self.root / "jobs")

    @property
    def store(self) -> BundleStore:
        """The store of this desk."""
        return BundleStore(self.root / "bundles")

    def artifacts(self) -> dict[str, bytes]:
        """What the trainer logs beside the model."""
        return {
            "slipway/evaluation.parquet": self.workspace.evaluation.read_bytes(),
            "slipway/predictions.parquet": self.workspace.predictions.read_bytes(),
        }

    def package(self, **changes: Any) -> Packaged:
        """Register one version and make its bundle."""
        logged: dict[str, Any] = {
            "onnx": self.workspace.onnx_model.read_bytes(),
            "input_types": TYPES,
            "artifacts": self.artifacts(),
            "run_tags": {"mlflow.source.git.commit": "c0ffee", "slipway.dataset.train": "sha256:1"},
        }
        self.registry.register("plant-model", **{**logged, **changes})
        return self.again()

    def again(self, pinned: str | None = None, fallback: Path | None = None) -> Packaged:
        """Make the bundle of the newest version."""
        return make_bundle(
            self.registry,
            self.store,
            lambda task, files: self.jobs.run(task, files, BOUNDS),
            self.registry.newest("plant-model"),
            pinned=pinned,
            fallback_evaluation=lambda: fallback,
            workdir=self.root / "work",
        )

    def predictions(self, packaged: Packaged) -> Any:
        """Return the predictions that were kept when the bundle was made."""
        return kept_predictions(
            self.registry,
            lambda: self.registry.newest("plant-model"),
            digest=packaged.predictions,
            workdir=self.root / "work",
        )


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return trained.trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def desk(tmp_path: Path, workspace: Workspace) -> Desk:
    return Desk(tmp_path, workspace)


def test_a_bundle_holds_schema_golden_rows_and_provenance(desk: Desk) -> None:
    packaged = desk.package()
    folder = desk.store.path(packaged.digest)
    content = (folder / "bundle.json").read_bytes()
    assert content == canonical(packaged.body)
    assert digest_of(content) == packaged.digest
    body = json.loads(content)
    assert body["output"] == {"target": "outcome", "classes": ["flowers", "green"], "positive": "flowers"}
    assert body["features"][1]["minimum"] == 1
    soil = {"name": "soil", "type": "category", "categories": ["clay", "loam", "sand"], "nullable": False}
    assert body["features"][3] == soil
    assert body["onnx"]["inputs"][0] == {"name": "height", "dtype": "float32", "features": ["height"]}
    assert body["files"] == {"model.onnx": digest_of((folder / "model.onnx").read_bytes())}
    assert body["provenance"]["git_commit"] == "c0ffee"
    assert body["provenance"]["datasets"] == {"train": "sha256:1", "evaluation": packaged.evaluation_digest}
    kept = desk.predictions(packaged)
    assert kept is not None
    assert len(read_predictions(kept)) == len(read_snapshot(packaged.evaluation).frame)


def test_outputs_are_told_by_their_types_whatever_their_names_are(desk: Desk) -> None:
    proto = onnx.load(str(desk.workspace.onnx_model))
    renamed_output(proto)
    body = desk.package(onnx=proto.SerializeToString()).body
    assert (body["onnx"]["label"], body["onnx"]["probabilities"], body["onnx"]["value"]) == ("label", "p", None)


def test_golden_rows_replay_and_cover_both_classes(desk: Desk) -> None:
    import pandas as pd

    packaged = desk.package()
    golden = packaged.body["golden"]
    assert len(golden["rows"]) == len(golden["expected"]) == 16
    assert {answer["prediction"] for answer in golden["expected"]} == {"flowers", "green"}
    description = Description.read(packaged.body)
    features = tuple(map(Feature.read, description.features))
    model = ServedModel.wired(OnnxModel.load(desk.store.path(packaged.digest) / "model.onnx"), features)
    for row, expected in zip(golden["rows"], golden["expected"], strict=True):
        (answer,) = answers_of(model.score(pd.DataFrame([row])), description.output)
        assert answer.as_json() == expected | {"probability": pytest.approx(expected["probability"], abs=1e-5)}


@pytest.mark.parametrize("tolerance", [1000.0, 0.0])
def test_how_far_a_model_may_be_off_is_not_for_who_reads_it_to_say(desk: Desk, tolerance: float) -> None:
    body = desk.package().body
    read = {name: body[name] for name in Read.model_fields}

    def answer(task: bytes, files: object) -> bytes:
        return json.dumps({"model_file": "model.onnx", "rows": [], "read": read}).encode()

    task = PackagingTask(version="version 1", features=None, predictions=False)
    assert ask(answer, task, {}, Parsed).read is not None
    read["golden"] = {**body["golden"], "tolerance": tolerance}
    with pytest.raises(JobFailed, match=f"its tolerance is {tolerance:g} in place of 1e-05"):
        ask(answer, task, {}, Parsed)


def test_the_same_version_gives_the_same_digest_anywhere(desk: Desk, tmp_path: Path) -> None:
    first = desk.package()
    assert desk.again().digest == first.digest
    elsewhere = Desk(tmp_path / "elsewhere", desk.workspace, desk.registry)
    assert elsewhere.again(pinned=first.digest).digest == first.digest


def test_a_pinned_version_whose_model_was_overwritten_is_refused(desk: Desk) -> None:
    digest = desk.package().digest
    other = onnx.load(str(desk.workspace.onnx_model))
    other.doc_string = "changed"
    desk.registry.overwrite(desk.registry.newest("plant-model"), other.SerializeToString())
    for store_lost in (False, True):
        if store_lost:
            desk.store.path(digest).rename(desk.root / "lost")
        with pytest.raises(Refused, match=r"digest mismatch, expected sha256:\w+ got sha256:\w+: .*version 1"):
            desk.again(pinned=digest)


def test_an_evaluation_set_other_than_the_tagged_one_is_refused(desk: Desk) -> None:
    with pytest.raises(Refused, match="digest mismatch, expected sha256:0 got sha256:"):
        desk.package(run_tags={"slipway.dataset.evaluation": "sha256:0"})


def test_an_evaluation_set_changed_after_the_pin_is_refused(desk: Desk) -> None:
    artifacts = desk.artifacts()
    digest = desk.package(artifacts=artifacts).digest
    artifacts["slipway/evaluation.parquet"] = desk.workspace.train.read_bytes()
    with pytest.raises(Refused, match="digest mismatch"):
        desk.again(pinned=digest)


def test_a_version_that_takes_fewer_features_is_asked_for_these_alone(desk: Desk, tmp_path: Path) -> None:
    held = read_snapshot(desk.workspace.evaluation)
    features = (*held.description.features, Feature("width", FeatureType.NUMBER))
    wider = dataclasses.replace(held.description, features=features)
    write_snapshot(tmp_path / "wider.parquet", held.frame.assign(width=1.5), wider)
    packaged = desk.package(
        artifacts={**desk.artifacts(), "slipway/evaluation.parquet": (tmp_path / "wider.parquet").read_bytes()}
    )
    assert {name for row in packaged.rows for name in row} == set(TYPES)


@pytest.mark.parametrize("column", ["age", "height", "soil"])
def test_an_evaluation_set_with_an_empty_value_is_refused_by_column_and_row(
    desk: Desk, tmp_path: Path, column: str
) -> None:
    table = pq.read_table(desk.workspace.evaluation)
    values = table[column].to_pylist()
    values[4] = None
    emptied = table.set_column(table.schema.get_field_index(column), column, pa.array(values, table[column].type))
    pq.write_table(emptied, tmp_path / "emptied.parquet")
    content = (tmp_path / "emptied.parquet").read_bytes()
    with pytest.raises(NotServable, match=f"feature '{column}' is empty in row 5 of the evaluation set, in 1 rows"):
        desk.package(artifacts={**desk.artifacts(), "slipway/evaluation.parquet": content})


def test_an_evaluation_set_that_does_not_say_what_is_true_of_a_row_is_refused(desk: Desk, tmp_path: Path) -> None:
    table = pq.read_table(desk.workspace.evaluation)
    values = table["outcome"].to_pylist()
    values[4] = None
    unknown = table.set_column(table.schema.get_field_index("outcome"), "outcome", pa.array(values, pa.string()))
    pq.write_table(unknown, tmp_path / "unknown.parquet")
    content = (tmp_path / "unknown.parquet").read_bytes()
    with pytest.raises(NotServable, match="the target 'outcome' is empty in row 5 of the evaluation set, in 1 rows"):
        desk.package(artifacts={**desk.artifacts(), "slipway/evaluation.parquet": content})


def test_a_version_without_evaluation_set_is_judged_by_the_newest_known(desk: Desk) -> None:
    with pytest.raises(NotServable, match="brings no evaluation set, and no version that serves or passed"):
        desk.package(artifacts={})
    packaged = desk.again(fallback=desk.workspace.evaluation)
    assert packaged.predictions is None
    assert read_snapshot(packaged.evaluation).description.target == "outcome"


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("height", math.inf, "'height' is 'inf' in row 5 of the evaluation set, and its type is number"),
        ("height", "tall", "'height' is 'tall' in row 5"),
        ("age", 1.5, "'age' is '1.5' in row 5 of the evaluation set, and its type is integer"),
        ("soil", 7, "'soil' is '7' in row 1 of the evaluation set, and its type is category"),
    ],
)
def test_a_value_that_is_not_of_its_type_is_refused_by_column_and_row(
    desk: Desk, column: str, value: Any, message: str
) -> None:
    table = pq.read_table(desk.workspace.evaluation)
    values = table[column].to_pylist()
    kind = type(value)
    spoiled = [value if row == 4 else kind(each if kind is not int else 7) for row, each in enumerate(values)]
    table = table.set_column(table.column_names.index(column), column, pa.array(spoiled))
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    with pytest.raises(NotServable, match=message):
        desk.package(artifacts={**desk.artifacts(), "slipway/evaluation.parquet": content.getvalue().to_pybytes()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positive": "blue"}, "the positive class 'blue' is none of"),
        ({"target": "soil"}, "columns with two roles: 'soil'"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(desk: Desk, change: dict[str, Any], message: str) -> None:
    table = pq.read_table(desk.workspace.evaluation)
    described = json.loads(table.schema.metadata[b"slipway.description"]) | change
    content = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({b"slipway.description": json.dumps(described).encode()}), content)
    with pytest.raises(NotServable, match=message):
        desk.package(artifacts={**desk.artifacts(), "slipway/evaluation.parquet": content.getvalue().to_pybytes()})


def test_what_nobody_has_foreseen_in_the_files_is_no_matter_of_their_size() -> None:
    def read() -> Parsed:
        raise IndexError("list index out of range")

    with pytest.raises(NotServable, match="its files can't be read: IndexError: list index out of range"):
        ask(
            lambda task, files: answered(read),
            PackagingTask(version="v1", features=None, predictions=False),
            {},
            Parsed,
        )


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({**TYPES, "age": "binary"}, "'age' has the type binary"),
        ({**TYPES, "age": "boolean"}, "'age' is a boolean, but the evaluation set holds a integer"),
        ({**TYPES, "age": "string"}, "'age' is a string, but the evaluation set holds a integer"),
        ({**TYPES, "height": "long"}, "'height' is a long"),
        ({**TYPES, "leaves": "long"}, "holds no such column"),
        ({"height": "double"}, "the ONNX model takes"),
        ({}, "has no signature with named columns"),
    ],
)
def test_a_signature_that_does_not_fit_is_refused(desk: Desk, types: dict[str, str], message: str) -> None:
    with pytest.raises(NotServable, match=message):
        desk.package(input_types=types)


def test_whole_numbers_may_feed_a_model_that_takes_any_number(desk: Desk) -> None:
    body = desk.package(input_types={**TYPES, "age": "float"}).body
    assert body["features"][1]["type"] == "number"


def external_data(proto: onnx.ModelProto) -> None:
    tensor = proto.graph.initializer.add(name="stolen", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def nested_external_data(proto: onnx.ModelProto) -> None:
    inner = onnx.ModelProto()
    external_data(inner)
    proto.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=inner.graph, else_branch=inner.graph))


def foreign_operator(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Run", [], [], domain="evil"))


def foreign_domain(proto: onnx.ModelProto) -> None:
    proto.opset_import.add(domain="com.microsoft", version=1)


def wide_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 2


def renamed_output(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Identity", ["probabilities"], ["p"]))
    proto.graph.output[1].name = "p"


def no_label(proto: onnx.ModelProto) -> None:
    proto.graph.node.append(helper.make_node("Identity", ["probabilities"], ["p"]))
    proto.graph.output[0].CopyFrom(proto.graph.output[1])
    proto.graph.output[0].name = "p"


def one_label(proto: onnx.ModelProto) -> None:
    """Answer "green" whatever the probabilities say."""
    attributes = (attribute for node in proto.graph.node for attribute in node.attribute)
    (labels,) = (attribute for attribute in attributes if attribute.name == "classlabels_strings")
    labels.strings[:] = [b"green", b"green"]
    del proto.metadata_props[:]


def scores(proto: onnx.ModelProto) -> None:
    """Answer what a classifier without probabilities does: the greatest score is right, and means nothing."""
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [1], [5.0])
    proto.graph.initializer.append(scale)
    proto.graph.node.append(helper.make_node("Mul", ["probabilities", "scale"], ["scores"]))
    proto.graph.output[1].name = "scores"


def noting(written: str) -> Callable[[onnx.ModelProto], None]:
    """Return what writes another note of the classes into a model."""
    return lambda proto: helper.set_model_props(proto, {CLASSES_KEY: written})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (external_data, "keeps tensor 'stolen' in another file"),
        (nested_external_data, "keeps tensor 'stolen' in another file"),
        (foreign_operator, "operator Run of domain 'evil'"),
        (foreign_domain, "com.microsoft"),
        (wide_input, r"refuses model.onnx|height \[N, 2\]"),
        (no_label, "the ONNX model answers"),
        (one_label, "label is not that of its largest probability"),
        (scores, "answers probabilities from 0 to [0-9.]+ on the evaluation rows"),
        (noting('["green", "flowers"]'), "label is not that of its largest probability"),
        (noting('["flowers", "blue"]'), r"says that its classes are \['flowers', 'blue'\], the evaluation set"),
        (noting('{"flowers": 0}'), "metadata slipway.classes is '{"),
    ],
)
def test_a_model_that_is_not_plain_is_refused(
    desk: Desk, spoil: Callable[[onnx.ModelProto], None], message: str
) -> None:
    proto = onnx.load(str(desk.workspace.onnx_model))
    spoil(proto)
    with pytest.raises(NotServable, match=message) as refusal:
        desk.package(onnx=proto.SerializeToString())
    assert refusal.value.next
    assert not (desk.root / "bundles").exists()


def test_a_model_that_is_another_to_its_runtime_is_refused_and_never_run(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = desk.workspace.onnx_model.read_bytes()
    both = two_models_in_one(plain, foreign_model(plain), tmp_path / "own.ort")
    with pytest.raises(NotServable, match="ONNX Runtime's own format"):
        desk.package(onnx=both)
    monkeypatch.setattr(onnx_model, "_OWN_FORMAT", b"none")
    assert desk.package(onnx=both).body["golden"] == desk.package(onnx=plain).body["golden"]


def test_a_model_that_does_not_note_its_classes_is_asked_for_them(desk: Desk, tmp_path: Path) -> None:
    silent = onnx.load(str(desk.workspace.onnx_model))
    del silent.metadata_props[:]
    assert desk.package(onnx=silent.SerializeToString()).body["output"]["classes"] == ["flowers", "green"]
    frame = trained.plants()
    frame.loc[frame.index[::40], "outcome"] = "lost"
    frame.loc[frame.index[1::40], "outcome"] = "returned"
    rare = trained.workspace(tmp_path / "rare", frame)
    for stage in trained.STAGES:
        stage(rare)
    artifacts = {"slipway/evaluation.parquet": rare.evaluation.read_bytes()}
    body = desk.package(onnx=rare.onnx_model.read_bytes(), artifacts=artifacts).body
    assert body["output"]["classes"] == ["flowers", "green", "lost", "returned"]
    silent = onnx.load(str(rare.onnx_model))
    del silent.metadata_props[:]
    with pytest.raises(NotServable, match="never answers 'lost', 'returned' on the evaluation rows") as refusal:
        desk.package(onnx=silent.SerializeToString(), artifacts=artifacts)
    assert "slipway.classes" in refusal.value.next


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"not a model at all"])
def test_what_is_no_model_is_refused(desk: Desk, content: bytes) -> None:
    with pytest.raises(NotServable):
        desk.package(onnx=content)


class ListingRegistry(FakeModelRegistry):
    """A registry whose models bring a list of dependencies of `listed`."""

    listed = b""

    def fetch_model(self, version: RegisteredVersion, into: Path) -> None:
        super().fetch_model(version, into)
        (into / "requirements.txt").write_bytes(self.listed)


def test_a_list_of_dependencies_has_so_many_bytes(tmp_path: Path, workspace: Workspace) -> None:
    registry = ListingRegistry()
    desk, registry.listed = Desk(tmp_path, workspace, registry), b"\r" * (1 << 20)
    assert desk.package().body["provenance"]["dependencies"] == digest_of(b"\n" * (1 << 20))
    registry.listed += b"\r"
    with pytest.raises(NotServable, match=r"its requirements\.txt has more than 1,048,576 bytes"):
        desk.again()


def test_a_large_file_is_named_in_little_memory(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    try:
        found = digest_of_file(tmp_path / "large")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert found == digest_of(bytes(64 << 20))


def test_a_model_above_the_size_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(NotServable, match="more than"):
        OnnxModel.load(path)


@pytest.mark.parametrize("damage", ["flip", "truncate", "missing", "link", "description"])
def test_the_store_hands_out_no_changed_byte(desk: Desk, damage: str) -> None:
    digest = desk.package().digest
    folder = desk.store.path(digest)
    model = folder / "model.onnx"
    content = model.read_bytes()
    if damage == "flip":
        model.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    elif damage == "truncate":
        model.write_bytes(content[:-1])
    elif damage == "description":
        (folder / "bundle.json").write_bytes((folder / "bundle.json").read_bytes() + b"\n")
    else:
        model.rename(desk.root / "moved.onnx")
        if damage == "link":
            model.symlink_to(desk.root / "moved.onnx")
    with pytest.raises(DeployFailed):
        desk.store.path(digest)


def test_what_lies_beside_a_bundles_files_keeps_nobody_from_them(desk: Desk) -> None:
    digest = desk.package().digest
    folder = desk.store.path(digest)
    (folder / "evidence").mkdir()
    (folder / "evidence" / "report.json").write_text("{}")
    assert desk.store.path(digest) == folder


def test_the_store_tells_what_was_expected_and_what_it_got(desk: Desk) -> None:
    digest = desk.package().digest
    (desk.store.path(digest) / "model.onnx").write_bytes(b"swapped")
    with pytest.raises(DeployFailed, match=rf"digest mismatch, expected sha256:\w+ got {digest_of(b'swapped')}"):
        desk.store.path(digest)


def test_the_store_writes_plain_modes_and_leaves_no_parts(desk: Desk) -> None:
    folder = desk.store.path(desk.package().digest)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert {entry.stat().st_mode & 0o777 for entry in folder.iterdir()} == {0o644}
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_the_store_refuses_names_that_leave_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x")
    store = BundleStore(tmp_path / "bundles")
    for name in ("../evil", "/etc/evil", "a/b"):
        with pytest.raises(UsageError):
            store.put({"files": {name: digest_of(b"x")}}, {name: source})
    with pytest.raises(UsageError, match="is not a digest"):
        store.path("sha256:../../etc")
    assert list((tmp_path / "bundles").iterdir()) == []
