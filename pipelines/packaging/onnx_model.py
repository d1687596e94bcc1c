"""An ONNX model from outside: nothing but plain operators in one file is ever run."""

import re
from collections.abc import Iterable, Iterator
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

from pipelines.errors import NotServable

# Metadata of a model that says which class each column of its probabilities is of: a JSON list of texts.
CLASSES_KEY = "slipway.classes"
MAX_BYTES = 256 * 1024 * 1024
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(string)": "string",
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
    """Answers to n rows: `labels` are texts (n,), `probabilities` are P(positive), float64 (n,)."""

    labels: NDArray[np.object_]
    probabilities: NDArray[np.float64]


def output_names(inputs: Iterable[str]) -> tuple[str, str]:
    """Return the names of label and probabilities: `label` and `probabilities`, unless an input is called so.

    In that case they begin with `output_`.
    """
    taken = set(inputs)
    label, probabilities = "label", "probabilities"
    while label in taken:
        label = f"output_{label}"
    while probabilities in taken:
        probabilities = f"output_{probabilities}"
    return label, probabilities


def refuse_unspeakable(name: str) -> None:
    """Raise NotServable for the name of an input that no request can carry."""
    if _UNSPEAKABLE.search(name):
        raise NotServable(
            f"{name!r} can't be a field of a request",
            next="give it a name without double quotes, backslashes and control characters",
        )


@dataclass(frozen=True)
class OnnxModel:
    """A model that is safe to run.

    `inputs` are (name, dtype), each of shape [N, 1]; `outputs` the names of label and probabilities; `classes` are
    those of the columns of the probabilities, empty where the model does not say.
    """

    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[str, str]
    classes: tuple[str, ...]
    session: ort.InferenceSession

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read, check and open `path`; raise NotServable for anything else than a plain classifier."""
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise NotServable(f"{path.name} has {size} bytes, more than {MAX_BYTES}", next="register a smaller model")
        content = path.read_bytes()
        try:
            proto = onnx.load_model_from_string(content)
        except DecodeError as error:
            raise NotServable(
                f"{path.name} is not an ONNX model: {error}", next="log it with mlflow.onnx.log_model"
            ) from error
        _refuse_unsafe(proto)
        try:
            # From bytes: a session has then no folder from which it could read other files.
            session = ort.InferenceSession(content, _options(), providers=["CPUExecutionProvider"])
        except _ORT_ERRORS as error:
            raise NotServable(
                f"ONNX Runtime refuses {path.name}: {str(error)[:300]}",
                next="export it for an operator set that ONNX Runtime knows",
            ) from error
        inputs = tuple(_input(node) for node in session.get_inputs())
        outputs = output_names(name for name, _ in inputs)
        _refuse_outputs(session, outputs)
        return cls(inputs=inputs, outputs=outputs, classes=_classes(session), session=session)

    def run(self, frame: pd.DataFrame) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        """Return labels as text (n,) and the probabilities of all classes (n, C) for the rows of `frame`."""
        feeds = {name: _tensor(frame[name], dtype) for name, dtype in self.inputs}
        try:
            labels, probabilities = self.session.run(list(self.outputs), feeds)
        except _ORT_ERRORS as error:
            if any(words in str(error) for words in _NO_MEMORY):
                raise MemoryError from error
            raise NotServable(
                f"the ONNX model fails on {len(frame)} rows: {str(error)[:300]}",
                next="check that it was exported from the model that was trained on these features",
            ) from error
        texts = np.array([str(label) for label in np.ravel(labels)], dtype=object)
        if np.ndim(probabilities) != 2 or len(probabilities) != len(frame) or len(texts) != len(frame):
            raise NotServable(
                f"the ONNX model answers {len(frame)} rows with labels {np.shape(labels)}"
                f" and probabilities {np.shape(probabilities)}",
                next=f"export it with outputs {self.outputs[0]} [N] and {self.outputs[1]} [N, classes]",
            )
        return texts, np.asarray(probabilities, dtype=np.float64)

    def score(self, frame: pd.DataFrame, *, positive_index: int) -> Scores:
        """Score the rows of `frame`; `positive_index` is the positive class's column of `probabilities`."""
        labels, probabilities = self.run(frame)
        return Scores(labels, probabilities[:, positive_index])


def _options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    # One thread sums in one order: the same rows give the same bits.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return options


def _input(node: Any) -> tuple[str, str]:
    refuse_unspeakable(node.name)
    shape = list(node.shape)
    if len(shape) != 2 or shape[1] != 1 or isinstance(shape[0], int):
        raise NotServable(
            f"ONNX input {node.name!r} has shape {shape}",
            next="export one input of shape [None, 1] for each feature",
        )
    if node.type not in _DTYPES:
        raise NotServable(
            f"ONNX input {node.name!r} is a {node.type}",
            next=f"export it as one of {', '.join(_DTYPES.values())}",
        )
    return str(node.name), _DTYPES[node.type]


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


def _refuse_outputs(session: ort.InferenceSession, names: tuple[str, str]) -> None:
    outputs = {node.name: node.type for node in session.get_outputs()}
    label_ok = outputs.get(names[0]) in ("tensor(string)", "tensor(int64)")
    probabilities_ok = outputs.get(names[1]) in ("tensor(float)", "tensor(double)")
    if not (label_ok and probabilities_ok):
        raise NotServable(
            f"the ONNX model answers {outputs}",
            next=f'export a classifier with outputs "{names[0]}" and "{names[1]}" (skl2onnx: zipmap=False)',
        )


def _tensor(column: pd.Series, dtype: str) -> NDArray[Any]:
    kind: Any = object if dtype == "string" else np.dtype(dtype)
    return column.to_numpy().astype(kind).reshape(-1, 1)


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
                pending += [attribute.g] if attribute.HasField("g") else []
                pending += list(attribute.graphs)
        yield list(graph.node), tensors
