"""scikit-learn to ONNX, in the same bytes each time."""

from typing import Any

import numpy as np
from skl2onnx import convert_sklearn
from skl2onnx.common._container import ModelComponentContainer
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from skl2onnx.operator_converters.random_forest import convert_sklearn_random_forest_classifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

from pipelines.domain.bundle import FeatureType
from pipelines.packaging.snapshot import SnapshotDescription


def to_onnx(pipeline: Pipeline, description: SnapshotDescription) -> bytes:
    """Return the ONNX form: one input [N, 1] a feature, outputs `label` [N] and `probabilities` [N, C]."""
    inputs = []
    for feature in description.features:
        kind = StringTensorType if feature.type is FeatureType.CATEGORY else FloatTensorType
        inputs.append((feature.name, kind([None, 1])))
    proto = convert_sklearn(
        pipeline,
        # A graph without a given name gets a random one.
        name=description.model,
        initial_types=inputs,
        options={id(pipeline): {"zipmap": False}},
        custom_conversion_functions={HistGradientBoostingClassifier: _convert_gradient_boosting},
    )
    # skl2onnx lists them in the order of a set of texts, which differs from process to process.
    domains = sorted(proto.opset_import, key=lambda item: str(item.domain))
    del proto.opset_import[:]
    proto.opset_import.extend(domains)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


class _WholeNumberAttributes:
    """A skl2onnx container that writes flags as 0 and 1: onnx refuses the booleans of skl2onnx 1.20."""

    def __init__(self, container: ModelComponentContainer) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, op_type: str, inputs: Any, outputs: Any, **attributes: Any) -> None:
        whole = {
            key: [int(item) if isinstance(item, bool | np.bool_) else item for item in value]
            if isinstance(value, list)
            else value
            for key, value in attributes.items()
        }
        self._container.add_node(op_type, inputs, outputs, **whole)


def _convert_gradient_boosting(scope: Any, operator: Any, container: ModelComponentContainer) -> None:
    convert_sklearn_random_forest_classifier(scope, operator, _WholeNumberAttributes(container))
