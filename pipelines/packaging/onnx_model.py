"""An ONNX model from outside: nothing but plain operators in one file is ever run."""

from collections.abc import Iterator
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

from pipelines.errors import NotServable

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
_NO_MEMORY = ("bad allocation", "bad_alloc", "Failed to allocate memory")


@dataclass(frozen=True)
class Scores:
    """Answers to n rows: `labels` are texts (n,), `probabilities` are P(positive), float64 (n,)."""

    labels: NDArray[np.object_]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True)
class OnnxModel:
    """A model that is safe to run: `inputs` are (name, dtype), each of shape [N, 1]."""

    inputs: tuple[tuple[str, str], ...]
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
        _refuse_outputs(session)
        return cls(inputs=tuple(_input(node) for node in session.get_inputs()), session=session)

    def run(self, frame: pd.DataFrame) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
        """Return labels as text (n,) and the probabilities of all classes (n, C) for the rows of `frame`."""
        feeds = {name: _tensor(frame[name], dtype) for name, dtype in self.inputs}
        try:
            labels, probabilities = self.session.run(["label", "probabilities"], feeds)
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
                next="export it with outputs label [N] and probabilities [N, classes]",
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


def _refuse_outputs(session: ort.InferenceSession) -> None:
    outputs = {node.name: node.type for node in session.get_outputs()}
    label_ok = outputs.get("label") in ("tensor(string)", "tensor(int64)")
    probabilities_ok = outputs.get("probabilities") in ("tensor(float)", "tensor(double)")
    if not (label_ok and probabilities_ok):
        raise NotServable(
            f"the ONNX model answers {outputs}",
            next='export a classifier with outputs "label" and "probabilities" (skl2onnx: zipmap=False)',
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
