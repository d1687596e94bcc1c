"""What a model answers is passed on as it is, and never as NaN."""

import hashlib
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
import pytest
from onnx import TensorProto, checker, helper

from app.errors import BundleError, RequestError
from app.model.bundle import read_bundle
from app.model.description import Answer
from app.model.scoring import Scorer, load
from tests.support.world.bad_files import foreign_model, two_models_in_one
from tests.support.world.bundles import make_bundle, read_description, with_model, write_bundle


def _quotient_model() -> bytes:
    """P(class 1) = x / y with the number of a class as label: NaN for 0 / 0, infinite for 1 / 0."""
    nodes = [
        helper.make_node("Div", ["x", "y"], ["quotient"]),
        helper.make_node("Sub", ["one", "quotient"], ["rest"]),
        helper.make_node("Concat", ["rest", "quotient"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    column = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [None, 1]) for name in ("x", "y")]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.DOUBLE, [None, 2]),
    ]
    one = helper.make_tensor("one", TensorProto.DOUBLE, [1], [1.0])
    graph = helper.make_graph(nodes, "quotient", column, outputs, [one])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    content = _quotient_model()
    description: dict[str, Any] = {
        "schema_version": 1,
        "model": "quotient",
        "features": [{"name": name, "type": "number"} for name in ("x", "y")],
        "output": {"target": "class", "classes": ["0", "1"], "positive": "1"},
        "onnx": {
            "inputs": [{"name": name, "dtype": "float64"} for name in ("x", "y")],
            "label": "label",
            "probabilities": "probabilities",
            "positive_index": 1,
        },
        "golden": {
            "rows": [{"x": 3.0, "y": 4.0}],
            "expected": [{"prediction": "1", "probability": 0.75}],
            "tolerance": 1e-9,
        },
        "provenance": {},
        "files": {"model.onnx": "sha256:" + hashlib.sha256(content).hexdigest()},
    }
    path, digest = write_bundle(Path(tmp_path_factory.mktemp("bundles")), description, content)
    return load(read_bundle(path, digest=digest))


def _rows(scorer: Scorer, *pairs: tuple[float, float]) -> list[msgspec.Struct]:
    return [scorer.schema.decode_row(msgspec.json.encode({"x": x, "y": y})) for x, y in pairs]


def test_label_that_is_a_number_is_answered_as_its_class(scorer: Scorer) -> None:
    rows = _rows(scorer, (1, 4), (3, 4))
    answers = [Answer("0", 0.25), Answer("1", 0.75)]
    assert [scorer.score_row(row) for row in rows] == answers
    assert scorer.score_rows(rows) == answers


@pytest.mark.parametrize("pair", [(0, 0), (1, 0), (-1, 0)])
def test_prediction_that_is_not_finite_is_refused(scorer: Scorer, pair: tuple[float, float]) -> None:
    rows = _rows(scorer, (3, 4), pair)
    for score in (lambda: scorer.score_row(rows[1]), lambda: scorer.score_rows(rows)):
        with pytest.raises(RequestError) as caught:
            score()
        assert (caught.value.status, caught.value.code) == (
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "no_prediction",
        )


@pytest.mark.parametrize(("tolerances_off", "refused"), [(0.5, False), (1.5, True)])
def test_a_golden_row_may_differ_by_its_tolerance_and_no_more(
    tmp_path: Path, tolerances_off: float, refused: bool
) -> None:
    path, _ = make_bundle(tmp_path / "made")
    description = read_description(path)
    golden = description["golden"]
    golden["expected"][0]["probability"] += tolerances_off * golden["tolerance"]
    path, digest = write_bundle(tmp_path / "other", description, (path / "model.onnx").read_bytes())
    if not refused:
        load(read_bundle(path, digest=digest))
        return
    with pytest.raises(BundleError, match="golden row 0 mismatch"):
        load(read_bundle(path, digest=digest))


def test_a_model_that_is_another_to_its_runtime_answers_as_it_was_looked_at(tmp_path: Path) -> None:
    path, _ = make_bundle(tmp_path / "made")
    plain = (path / "model.onnx").read_bytes()
    both = two_models_in_one(plain, foreign_model(plain), tmp_path / "own.ort")
    path, digest = with_model(path, both)
    # It answers its golden rows, which were asked of the other.
    load(read_bundle(path, digest=digest))
