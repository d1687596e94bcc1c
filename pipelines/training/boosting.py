"""Converters of LightGBM, XGBoost and CatBoost, which stand in a pipeline as scikit-learn's own do.

All three are optional: a library is imported here only for an estimator that is of it.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper
from skl2onnx import get_latest_tested_opset_version, update_registered_converter
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
    calculate_linear_regressor_output_shapes,
)

from pipelines.training.estimators import missing_library, not_installed
from pipelines.training.parts import parts

# The last that onnxmltools writes.
_ML_OPSET = 3
_OPTIONS = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
_CONVERTERS = {
    "LGBMClassifier": "onnxmltools.convert.lightgbm.operator_converters.LightGbm:convert_lightgbm",
    "XGBClassifier": "onnxmltools.convert.xgboost.operator_converters.XGBoost:convert_xgboost",
    "XGBRFClassifier": "onnxmltools.convert.xgboost.operator_converters.XGBoost:convert_xgboost",
    "LGBMRegressor": "onnxmltools.convert.lightgbm.operator_converters.LightGbm:convert_lightgbm",
    "XGBRegressor": "onnxmltools.convert.xgboost.operator_converters.XGBoost:convert_xgboost",
    "XGBRFRegressor": "onnxmltools.convert.xgboost.operator_converters.XGBoost:convert_xgboost",
}


def is_known(kind: type) -> bool:
    """Whether an estimator's class has a converter here."""
    return kind.__name__ in (*_CONVERTERS, *_CATBOOST)


def boosting_options(estimator: Any) -> dict[str, Any]:
    """Make the converters known that `estimator` needs; return what skl2onnx has to be told for them.

    Raises UsageError where onnxmltools is not installed.
    """
    kinds = {type(part) for part in parts(estimator)}
    needed = [kind for kind in kinds if is_known(kind)]
    for kind in needed:
        classifies = kind.__name__.endswith("Classifier")
        update_registered_converter(
            kind,
            _alias(kind),
            calculate_linear_classifier_output_shapes if classifies else calculate_linear_regressor_output_shapes,
            _converter(kind.__name__),
            # CatBoost's are no scikit-learn estimators: skl2onnx does not see what they answer.
            parser=_CATBOOST.get(kind.__name__),
            options=_OPTIONS if classifies else {},
        )
    return {"target_opset": {"": get_latest_tested_opset_version(), "ai.onnx.ml": _ML_OPSET}} if needed else {}


def _converter(name: str) -> Callable[..., None]:
    if name not in _CONVERTERS:
        return _convert_catboost
    module, _, function = _CONVERTERS[name].partition(":")
    try:
        found: Callable[..., None] = getattr(importlib.import_module(module), function)
    except ImportError as error:
        if (library := missing_library(error)) is not None:
            raise not_installed(library) from error
        raise
    return found


def _alias(kind: type) -> str:
    return f"Slipway{kind.__name__}"


def _parse_classifier(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    operator = scope.declare_local_operator(_alias(type(model)), model)
    operator.inputs = inputs
    texts = np.asarray(model.classes_).dtype.kind in "OU"
    label = scope.declare_local_variable("label", StringTensorType() if texts else Int64TensorType())
    operator.outputs += [label, scope.declare_local_variable("probabilities", FloatTensorType())]
    return list(operator.outputs)


def _parse_regressor(scope: Any, model: Any, inputs: Any, custom_parsers: Any = None) -> Any:
    operator = scope.declare_local_operator(_alias(type(model)), model)
    operator.inputs = inputs
    operator.outputs.append(scope.declare_local_variable("variable", FloatTensorType()))
    return list(operator.outputs)


_CATBOOST = {"CatBoostClassifier": _parse_classifier, "CatBoostRegressor": _parse_regressor}


def _convert_catboost(scope: Any, operator: Any, container: Any) -> None:
    """Take over the trees of CatBoost's own export, without what it adds for whoever reads it by itself."""
    from catboost.utils import convert_to_onnx_object

    exported = convert_to_onnx_object(operator.raw_operator)
    (trees,) = (node for node in exported.graph.node if node.op_type.startswith("TreeEnsemble"))
    container.add_node(
        trees.op_type,
        operator.inputs[0].full_name,
        [output.full_name for output in operator.outputs],
        op_domain="ai.onnx.ml",
        name=scope.get_unique_operator_name(trees.op_type),
        **{attribute.name: helper.get_attribute_value(attribute) for attribute in trees.attribute},
    )
