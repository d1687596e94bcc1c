"""An ONNX model from outside: nothing but plain operators in one file is ever run."""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
from pydantic import StrictStr, TypeAdapter, ValidationError

from pipelines.domain.bundle import Feature, FeatureType
from pipelines.domain.description import ModelInput
from pipelines.errors import NotServable
from pipelines.packaging.served import model_values

# Metadata of a model that says which class each column of its probabilities is of: a JSON list of texts.
CLASSES_KEY = "slipway.classes"
# Two probabilities that are no further apart are a tie.
TIE = 1e-5
MAX_BYTES = 256 * 1024 * 1024
# Stands from the fifth byte on in a model in that format, which can be one of ONNX as well, with other nodes.
_OWN_FORMAT = b"ORTM"
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}
# The inputs that a feature may be fed to; the service refuses all others too.
_FITTING = {
    FeatureType.INTEGER: {"float32", "float64", "int64"},
    FeatureType.NUMBER: {"float32", "float64"},
    FeatureType.BOOLEAN: {"float32", "float64", "int64", "bool"},
    FeatureType.CATEGORY: {"string"},
    FeatureType.TEXT: {"string"},
    FeatureType.DATE: {"float32", "float64", "int64"},
    # The seconds of today are more than a float32 can tell apart.
    FeatureType.DATETIME: {"float64", "int64"},
}
_ORT_ERRORS = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)
# What the service can't take in the name of a field.
_UNSPEAKABLE = re.compile(r'["\\\x00-\x1f]')
_NO_MEMORY = ("bad allocation", "bad_alloc", "Failed to allocate memory")


@dataclass(frozen=True)
class Scores:
    """Answers to n rows.

    `numbers` are float64 (n, k): of a classifier the probabilities of its k classes, of a regression its values, with k
    = 1. `labels` are the classes answered as texts (n,), None of a regression.
    """

    numbers: NDArray[np.float64]
    labels: NDArray[np.object_] | None = None

    @property
    def values(self) -> NDArray[np.float64]:
        """What a regression answers, (n,)."""
        return self.numbers[:, 0]

    @property
    def clear(self) -> NDArray[np.bool_]:
        """In which rows one class is more probable than all others, (n,): in a tie either label is right.

        What is no number is no tie.
        """
        largest = np.sort(self.numbers, axis=1)[:, -2:]
        return ~(np.ptp(largest, axis=1) <= TIE) if largest.shape[1] > 1 else np.ones(len(largest), dtype=bool)

    def take(self, rows: NDArray[np.int_]) -> "Scores":
        """Return the answers to some of the rows, in that order."""
        return Scores(self.numbers[rows], None if self.labels is None else self.labels[rows])


def refuse_unspeakable(name: str) -> None:
    """Raise NotServable for the name of a feature that no request can carry."""
    if _UNSPEAKABLE.search(name):
        raise NotServable(
            f"{name!r} can't be a field of a request",
            next="give it a name without double quotes, backslashes and control characters",
        )


@dataclass(frozen=True)
class Tensor:
    """An input of shape [N, width]; the width is None where the model leaves it open."""

    name: str
    dtype: str
    width: int | None


@dataclass(frozen=True)
class OnnxModel:
    """A model that is safe to run; `label` and `probabilities` are outputs of a classifier, `value` of a regression.

    `classes` are those of the columns of the probabilities as texts, empty where the model does not say.
    """

    inputs: tuple[Tensor, ...]
    classes: tuple[str, ...]
    label: str | None
    probabilities: str | None
    value: str | None
    session: ort.InferenceSession

    @classmethod
    def load(cls, path: Path, *, eager: bool = True) -> Self:
        """Read, check and open `path`; raise NotServable for anything else than a plain classifier or regression.

        Unless it is `eager`, what follows from constants alone is computed in each run and not now, and no memory is
        kept for the next one: each run takes all that the model needs.
        """
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise NotServable(f"{path.name} has {size} bytes, more than {MAX_BYTES}", next="register a smaller model")
        return cls.read(path.read_bytes(), path.name, eager=eager)

    @classmethod
    def read(cls, content: bytes, name: str, *, eager: bool = True) -> Self:
        """Check and open the content of a file of that name; raises as `load` does."""
        if content[4:8] == _OWN_FORMAT:
            raise NotServable(
                f"{name} is a model in ONNX Runtime's own format, whatever else it is",
                next="log it with mlflow.onnx.log_model",
            )
        try:
            proto = onnx.load_model_from_string(content)
        except DecodeError as error:
            raise NotServable(
                f"{name} is not an ONNX model: {error}", next="log it with mlflow.onnx.log_model"
            ) from error
        _refuse_unsafe(proto)
        try:
            # From bytes: a session has then no folder from which it could read other files.
            session = ort.InferenceSession(
                content,
                _options(keeping=eager),
                providers=["CPUExecutionProvider"],
                disabled_optimizers=None if eager else ["ConstantFolding"],
            )
        except _ORT_ERRORS as error:
            raise NotServable(
                f"ONNX Runtime refuses {name}: {str(error)[:300]}",
                next="export it for an operator set that ONNX Runtime knows",
            ) from error
        inputs = tuple(_input(node) for node in session.get_inputs())
        return cls(inputs, _classes(session), *_outputs(session), session=session)

    def run(self, feeds: Mapping[str, NDArray[Any]], rows: int, *, within_s: float | None = None) -> Scores:
        """Return the answers to as many rows, given by the names of the inputs.

        Raises NotServable where it fails, or is ended after `within_s` of a processor, between two operators.
        """
        outputs = [name for name in (self.label, self.probabilities, self.value) if name]
        try:
            with _ended_after(within_s) as options:
                answers = self.session.run(outputs, dict(feeds), options)
        except _ORT_ERRORS as error:
            if options is not None and options.terminate:
                raise NotServable(
                    f"the ONNX model was ended after {1000 * (within_s or 0):g} ms of a processor",
                    next="register a model that answers sooner",
                ) from error
            if any(words in str(error) for words in _NO_MEMORY):
                raise MemoryError from error
            raise NotServable(
                f"the ONNX model fails on {rows} rows: {str(error)[:300]}",
                next="check that it was exported from the model that was trained on these features",
            ) from error
        numbers, labels = np.asarray(answers[-1]), None
        if self.label:
            labels = np.array([str(label) for label in np.ravel(answers[0])], dtype=object)
        elif numbers.ndim == 1:
            numbers = numbers.reshape(-1, 1)
        odd = numbers.ndim != 2 or len(numbers) != rows or (self.label is None and numbers.shape[1] != 1)
        if odd or (labels is not None and len(labels) != rows):
            shapes = [np.shape(each) for each in answers]
            raise NotServable(
                f"the ONNX model answers {rows} rows with {', '.join(outputs)} of shapes {shapes}",
                next="export a model with one answer for each row",
            )
        return Scores(numbers.astype(np.float64), labels)


@dataclass(frozen=True)
class ServedModel:
    """A model with the features that its inputs are fed from."""

    model: OnnxModel
    features: tuple[Feature, ...]
    inputs: tuple[ModelInput, ...]

    @classmethod
    def wired(cls, model: OnnxModel, features: tuple[Feature, ...]) -> Self:
        """Feed each input with the feature of its name, or a single one with all, in their order.

        Raises NotServable where the inputs are not made for such features.
        """
        names = tuple(feature.name for feature in features)
        found = {each.name for each in model.inputs}
        fed: dict[str, tuple[str, ...]] = {}
        if found == set(names) and all(each.width in (1, None) for each in model.inputs):
            fed = {name: (name,) for name in found}
        elif len(model.inputs) == 1 and model.inputs[0].width in (len(names), None):
            fed = {model.inputs[0].name: names}
        else:
            taken = ", ".join(sorted(f"{each.name} [N, {each.width or 'n'}]" for each in model.inputs))
            raise NotServable(
                f"the ONNX model takes {taken}, and the signature names {sorted(names)}",
                next="log it with the signature of the features it takes: an input [N, 1] for each, or one for all",
            )
        for name in names:
            refuse_unspeakable(name)
        known = {feature.name: feature for feature in features}
        for each in model.inputs:
            for name in fed[each.name]:
                _refuse_misfit(known[name], each.dtype)
        inputs = [{"name": each.name, "dtype": each.dtype, "features": fed[each.name]} for each in model.inputs]
        return cls(model, features, tuple(map(ModelInput.model_validate, inputs)))

    def score(self, frame: pd.DataFrame) -> Scores:
        """Return the answers to the rows of a frame that has a column for each feature; raises as `run` does."""
        return self.model.run(self.feeds(frame), len(frame))

    def feeds(self, frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
        """Return what `run` takes for the rows of such a frame, (n, width) by the name of each input."""
        return self.fed({each.name: model_values(frame[each.name], each) for each in self.features})

    def fed(self, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the same for values as `model_values` gives them, (n,) by feature."""
        feeds = {}
        for each in self.inputs:
            kind: Any = object if each.dtype == "string" else np.dtype(each.dtype)
            columns = [values[name].astype(kind) for name in each.features]
            feeds[each.name] = np.column_stack(columns) if len(columns) > 1 else columns[0].reshape(-1, 1)
        return feeds

    def answer(self, feeds: Mapping[str, NDArray[Any]], rows: NDArray[np.int_]) -> Scores:
        """Return the answers to some rows of `feeds`, in that order; raises as `run` does."""
        return self.model.run({name: values[rows] for name, values in feeds.items()}, len(rows))


def _refuse_misfit(feature: Feature, dtype: str) -> None:
    if dtype not in _FITTING[feature.type]:
        raise NotServable(
            f"feature {feature.name!r} is a {feature.type}, and its input of the model takes {dtype}",
            next=f"export it as an input of {' or '.join(sorted(_FITTING[feature.type]))}",
        )
    if feature.nullable and dtype not in ("float32", "float64", "string"):
        raise NotServable(
            f"feature {feature.name!r} may be missing, which its input of {dtype} can't say",
            next="export it as an input of float32 or float64, where NaN stands for a missing value",
        )


def _options(*, keeping: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = options.enable_mem_pattern = keeping
    # One thread sums in one order: the same rows give the same bits.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # What runs is what was looked at: in doubt ONNX Runtime takes a file for one of its own format.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


@contextmanager
def _ended_after(seconds: float | None) -> Iterator[ort.RunOptions | None]:
    """Yield the options of a run that is ended after so much time of a processor, None for one that never is.

    Who waits for a processor on a busy machine has not been slow.
    """
    if seconds is None:
        yield None
        return
    options, done, end = ort.RunOptions(), threading.Event(), time.process_time() + seconds

    def watch() -> None:
        while (left := end - time.process_time()) > 0:
            if done.wait(left):
                return
        options.terminate = True

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield options
    finally:
        done.set()
        watcher.join()


def _input(node: Any) -> Tensor:
    shape = list(node.shape)
    if len(shape) != 2 or isinstance(shape[0], int):
        raise NotServable(
            f"ONNX input {node.name!r} has shape {shape}",
            next="export one input of shape [None, 1] for each feature, or one of shape [None, n] for all",
        )
    if node.type not in _DTYPES:
        raise NotServable(
            f"ONNX input {node.name!r} is a {node.type}",
            next=f"export it as one of {', '.join(_DTYPES.values())}",
        )
    return Tensor(str(node.name), _DTYPES[node.type], shape[1] if isinstance(shape[1], int) else None)


def _classes(session: ort.InferenceSession) -> tuple[str, ...]:
    written = session.get_modelmeta().custom_metadata_map.get(CLASSES_KEY)
    if written is None:
        return ()
    try:
        return TypeAdapter(tuple[StrictStr, ...]).validate_json(written)
    except ValidationError as error:
        raise NotServable(
            f"the ONNX model's metadata {CLASSES_KEY} is {written[:80]!r}",
            next="write the classes as a JSON list of texts, or leave it out",
        ) from error


def _outputs(session: ort.InferenceSession) -> tuple[str | None, str | None, str | None]:
    """Return which outputs are label and probabilities, or value: told by their types, whatever their names are."""
    outputs = {node.name: node.type for node in session.get_outputs()}
    labels = [name for name, kind in outputs.items() if kind in ("tensor(string)", "tensor(int64)")]
    numbers = [name for name, kind in outputs.items() if kind in ("tensor(float)", "tensor(double)")]
    if len(labels) == 1 and len(numbers) == 1:
        return labels[0], numbers[0], None
    if not labels and len(numbers) == 1 and len(outputs) == 1:
        return None, None, numbers[0]
    raise NotServable(
        f"the ONNX model answers {outputs}",
        next="export a classifier that answers its label and a tensor of probabilities (skl2onnx: zipmap=False),"
        " or a regression that answers its value",
    )


def _refuse_unsafe(proto: onnx.ModelProto) -> None:
    for graph_nodes, tensors in _parts(proto):
        for node in graph_nodes:
            if node.domain not in _DOMAINS:
                raise NotServable(
                    f"the ONNX model uses operator {node.op_type} of domain {node.domain!r}",
                    next="export it with standard operators only (ai.onnx and ai.onnx.ml)",
                )
        for tensor in tensors:
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                raise NotServable(
                    f"the ONNX model keeps tensor {tensor.name!r} in another file",
                    next="log it in one file: mlflow.onnx.log_model(..., save_as_external_data=False)",
                )
    strangers = sorted({item.domain for item in proto.opset_import} - _DOMAINS)
    if strangers or proto.functions:
        raise NotServable(
            f"the ONNX model brings domains {strangers} and {len(proto.functions)} functions of its own",
            next="export it with standard operators only (ai.onnx and ai.onnx.ml)",
        )


def graphs_of(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs that a node holds."""
    held = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return held + [graph for attribute in node.attribute for graph in attribute.graphs]


def _parts(proto: onnx.ModelProto) -> Iterator[tuple[list[onnx.NodeProto], list[onnx.TensorProto]]]:
    """Yield nodes and tensors of the main graph and of every graph nested in it, however deep."""
    pending = [proto.graph]
    while pending:
        graph = pending.pop()
        tensors = list(graph.initializer)
        for sparse in graph.sparse_initializer:
            tensors += [sparse.values, sparse.indices]
        for node in graph.node:
            for attribute in node.attribute:
                tensors += [attribute.t, *attribute.tensors]
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    tensors += [sparse.values, sparse.indices]
            pending += graphs_of(node)
        yield list(graph.node), tensors
