"""scikit-learn to ONNX, in the same bytes each time."""

import copy
import traceback
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skl2onnx import convert_sklearn
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common._container import ModelComponentContainer
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from skl2onnx.operator_converters.random_forest import (
    convert_sklearn_random_forest_classifier,
    convert_sklearn_random_forest_regressor_converter,
)
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, VotingClassifier
from sklearn.pipeline import FeatureUnion, Pipeline

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import Task, label_text
from pipelines.errors import NotServable, SlipwayError
from pipelines.packaging.snapshot import SnapshotDescription
from pipelines.training.advice import advice, named
from pipelines.training.boosting import boosting_options, is_known
from pipelines.training.graph import free_name, label_by_text, note_classes, rename, split_time
from pipelines.training.parts import parts, step_of

DAY_S = 86_400


def columns_of(feature: Feature) -> tuple[str, ...]:
    """Return the columns that a model is given of a feature."""
    if feature.type is FeatureType.DATETIME:
        return f"{feature.name} (day)", f"{feature.name} (second)"
    return (feature.name,)


def to_onnx(pipeline: Pipeline, description: SnapshotDescription, classes: Sequence[str] | None = None) -> bytes:
    """Return the ONNX form: one input [N, 1] a feature; outputs label [N] and probabilities [N, C], or value [N, 1].

    Inputs are called as their features are. `classes` are the texts of the pipeline's own, in its order; without them
    they are those of the description. Raises NotServable, with the step at fault, for what can't be converted.
    """
    pipeline = _by_position(pipeline)
    # skl2onnx changes names that are no identifiers, each for itself.
    neutral = [(f"input_{position}", feature) for position, feature in enumerate(description.features)]
    inputs = []
    for name, feature in neutral:
        kind = StringTensorType if feature.type.is_text else FloatTensorType
        inputs += [(each, kind([None, 1])) for each in _given(name, feature)]
    classifies = description.task is not Task.REGRESSION
    try:
        proto = convert_sklearn(
            pipeline,
            # A graph without a given name gets a random one.
            name=description.model,
            initial_types=inputs,
            options={id(_last(pipeline)): {"zipmap": False}} if classifies else None,
            custom_conversion_functions={
                HistGradientBoostingClassifier: _convert_gradient_boosting,
                HistGradientBoostingRegressor: _convert_boosted_regressor,
            },
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
    for name, feature in neutral:
        if feature.type is FeatureType.DATETIME:
            split_time(proto, name, *_given(name, feature), day_s=DAY_S)
    names = {name: feature.name for name, feature in neutral}
    taken = set(names.values())
    if classifies:
        texts = tuple(map(label_text, description.classes) if classes is None else classes)
        known = np.asarray(pipeline.classes_)
        if known.dtype.kind in "biuf":
            label_by_text(proto, dict(zip(known.astype(np.int64).tolist(), texts, strict=True)))
        outputs = {output: free_name(output, taken) for output in ("label", "probabilities")}
        rename(proto, {**names, **outputs})
        note_classes(proto, texts)
    else:
        (output,) = proto.graph.output
        rename(proto, {**names, output.name: free_name("value", taken)})
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _given(name: str, feature: Feature) -> tuple[str, ...]:
    """Return the neutral names of the columns of a feature."""
    return (name,) if len(columns_of(feature)) == 1 else (f"{name}_day", f"{name}_second")


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
        for predictor in (each for round_ in getattr(part, "_predictors", ()) for each in round_):
            _round_down(predictor.nodes["num_threshold"])
    return copied


def _round_down(thresholds: NDArray[np.float64]) -> None:
    """Put in place of each threshold the largest float32 that is not above it: no float32 is on another side of it.

    ONNX would round it to the nearest one, which may be the very value that has to stay above.
    """
    with np.errstate(over="ignore"):
        nearest = thresholds.astype(np.float32)
    above = nearest.astype(np.float64) > thresholds
    nearest[above] = np.nextafter(nearest[above], np.float32(-np.inf))
    thresholds[:] = nearest


def _last(pipeline: Pipeline) -> Any:
    last = pipeline
    while isinstance(last, Pipeline):
        last = last.steps[-1][1]
    return last


def _not_convertible(pipeline: Pipeline, error: Exception) -> NotServable:
    found = {type(part): part for part in parts(pipeline) if hasattr(part, "fit")}
    # What begins so is within an estimator, which has a converter or has none.
    own = {kind: part for kind, part in found.items() if not kind.__name__.startswith("_")}
    without = {kind: own[kind] for kind in own.keys() - {Pipeline, ColumnTransformer, FeatureUnion}
               if kind not in sklearn_operator_name_map and not is_known(kind)}  # fmt: skip
    if without:
        listed = sorted(
            " of ".join(filter(None, (kind.__name__, step_of(pipeline, part)))) for kind, part in without.items()
        )
        return NotServable(
            f"the estimator can't be exported: skl2onnx has no converter for {', '.join(listed)}",
            next=advice(pipeline),
        )
    at = step_of(pipeline, _at_fault(error)) or f"the estimator of {named(pipeline)}"
    return NotServable(f"{at} can't be exported: {' '.join(str(error).split())[:300]}", next=advice(pipeline))


def _at_fault(error: Exception) -> Any:
    """Return the estimator whose converter failed, as skl2onnx passes it on; None where none had begun."""
    operators = (frame.f_locals.get("operator") for frame, _ in traceback.walk_tb(error.__traceback__))
    estimators = [getattr(each, "raw_operator", None) for each in operators if each is not None]
    return estimators[-1] if estimators else None


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


def _convert_boosted_regressor(scope: Any, operator: Any, container: ModelComponentContainer) -> None:
    convert_sklearn_random_forest_regressor_converter(scope, operator, _WholeNumberAttributes(container))
