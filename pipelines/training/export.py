"""scikit-learn to ONNX, in the same bytes each time."""

import copy
from typing import Any

import numpy as np
from skl2onnx import convert_sklearn
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common._container import ModelComponentContainer
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from skl2onnx.operator_converters.random_forest import convert_sklearn_random_forest_classifier
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, VotingClassifier
from sklearn.pipeline import Pipeline

from pipelines.domain.bundle import FeatureType
from pipelines.domain.description import label_text
from pipelines.errors import NotServable, SlipwayError
from pipelines.packaging.snapshot import SnapshotDescription
from pipelines.training.advice import advice, named
from pipelines.training.boosting import boosting_options
from pipelines.training.graph import label_by_text, note_classes, rename
from pipelines.training.parts import parts


def to_onnx(pipeline: Pipeline, description: SnapshotDescription) -> bytes:
    """Return the ONNX form: one input [N, 1] a feature, outputs label [N] and probabilities [N, C].

    Inputs are called as their features are. Raises NotServable, with the step at fault, for what can't be converted.
    """
    pipeline = _by_position(pipeline)
    # skl2onnx changes names that are no identifiers, each for itself.
    neutral = {f"input_{position}": feature for position, feature in enumerate(description.features)}
    inputs = []
    for name, feature in neutral.items():
        kind = StringTensorType if feature.type is FeatureType.CATEGORY else FloatTensorType
        inputs.append((name, kind([None, 1])))
    try:
        proto = convert_sklearn(
            pipeline,
            # A graph without a given name gets a random one.
            name=description.model,
            initial_types=inputs,
            options={id(_last(pipeline)): {"zipmap": False}},
            custom_conversion_functions={HistGradientBoostingClassifier: _convert_gradient_boosting},
            **boosting_options(pipeline),
        )
    except (MemoryError, SlipwayError):
        raise
    except Exception as error:
        raise _not_convertible(pipeline, error) from error
    # skl2onnx lists them in the order of a set of texts, which differs from process to process.
    domains = sorted(proto.opset_import, key=lambda item: str(item.domain))
    del proto.opset_import[:]
    proto.opset_import.extend(domains)
    classes = tuple(map(label_text, description.classes))
    if np.issubdtype(np.asarray(pipeline.classes_).dtype, np.integer):
        label_by_text(proto, classes)
    rename(proto, {name: feature.name for name, feature in neutral.items()})
    note_classes(proto, classes)
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _by_position(pipeline: Pipeline) -> Pipeline:
    """Return a copy that finds its columns by position, and whose votes are not flattened, which no answer needs."""
    copied = copy.deepcopy(pipeline)
    for part in parts(copied):
        if isinstance(part, ColumnTransformer) and hasattr(part, "transformers_"):
            positions = part._transformer_to_input_indices
            part.transformers_ = [
                (name, step, [int(position) for position in positions[name]]) for name, step, _ in part.transformers_
            ]
        if isinstance(part, VotingClassifier):
            part.flatten_transform = False
    return copied


def _last(pipeline: Pipeline) -> Any:
    last = pipeline
    while isinstance(last, Pipeline):
        last = last.steps[-1][1]
    return last


def _not_convertible(pipeline: Pipeline, error: Exception) -> NotServable:
    kinds = {type(part) for part in parts(pipeline) if hasattr(part, "fit")} - {Pipeline, ColumnTransformer}
    without = sorted(kind.__name__ for kind in kinds if kind not in sklearn_operator_name_map)
    if without:
        return NotServable(
            f"the estimator can't be exported: skl2onnx has no converter for {', '.join(without)}",
            next=advice(pipeline),
        )
    return NotServable(
        f"the estimator of {named(pipeline)} can't be exported: {' '.join(str(error).split())[:300]}",
        next=advice(pipeline),
    )


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
