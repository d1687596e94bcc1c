"""What a version without ONNX is refused with: the call that logs it so that it can be served, names filled in."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.errors import NotServable
from pipelines.packaging.mlmodel import read_mlmodel

TWO = [{"name": "fare", "type": "double"}, {"name": "port of call", "type": "string"}]
NUMBER = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}]
WHOLE = [{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]


def advice(folder: Path, flavors: dict[str, Any], inputs: Any = None, outputs: Any = None) -> NotServable:
    """Return how a version of an MLmodel file is refused."""
    texts = {"inputs": inputs, "outputs": outputs}
    signature = {key: value if isinstance(value, str) else json.dumps(value) for key, value in texts.items() if value}
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, "signature": signature}))
    with pytest.raises(NotServable) as refusal:
        read_mlmodel(folder, "version 3 of passengers", model="passengers", number="3")
    return refusal.value


@pytest.mark.parametrize(
    ("flavor", "described", "outputs", "task"),
    [
        ("sklearn", {"pickled_model": "model.pkl"}, WHOLE, "binary"),
        ("sklearn", {"pickled_model": "model.pkl"}, NUMBER, "regression"),
        ("sklearn", {}, [{"type": "double", "name": "prediction"}], "regression"),
        ("xgboost", {"model_class": "xgboost.sklearn.XGBClassifier"}, NUMBER, "binary"),
        ("lightgbm", {"model_class": "lightgbm.sklearn.LGBMRegressor"}, None, "regression"),
        ("catboost", {"model_type": "CatBoostClassifier"}, None, "binary"),
        ("catboost", {"model_type": "CatBoostRegressor"}, None, "regression"),
        ("sklearn", {"model_class": ["Regressor"]}, None, "binary"),
    ],
)
def test_the_call_has_the_names_that_are_known(
    tmp_path: Path, flavor: str, described: dict[str, Any], outputs: Any, task: str
) -> None:
    refusal = advice(tmp_path, {"python_function": {}, flavor: described}, TWO, outputs)
    assert refusal.message == f"version 3 of passengers has no ONNX model: it was logged as {flavor}"
    call = f'slipway.log_model(model, X_test[["fare", "port of call"]], y_test, task="{task}", name="passengers")'
    assert f"import slipway; {call}" in refusal.next
    assert "make model-convert VERSION=3" in refusal.next


@pytest.mark.parametrize(
    "inputs",
    [
        None,
        "no json",
        [],
        [{"name": f"column {number}", "type": "double"} for number in range(60)],
        NUMBER,
        [7],
        {"a": 1},
    ],
)
def test_what_is_not_known_is_left_to_the_reader(tmp_path: Path, inputs: Any) -> None:
    assert "log_model(model, X_test, y_test," in advice(tmp_path, {"sklearn": {}}, inputs).next


def test_what_no_conversion_takes_is_told_how_to_log_onnx(tmp_path: Path) -> None:
    refusal = advice(tmp_path, {"pytorch": {}, "python_function": {}}, TWO)
    assert refusal.message == "version 3 of passengers has no ONNX model, only python_function, pytorch"
    assert "mlflow.onnx.log_model" in refusal.next and "slipway" not in refusal.next
