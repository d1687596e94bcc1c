"""Scores rows with ONNX Runtime; a model that does not answer its golden rows as at packaging is refused."""

import math
from collections.abc import Sequence
from http import HTTPStatus
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from app.errors import BundleError, RequestError
from app.model.bundle import Answer, Bundle, Dtype
from app.model.schema import RequestSchema

_NUMPY_TYPES: dict[Dtype, Any] = {
    Dtype.FLOAT32: np.float32,
    Dtype.FLOAT64: np.float64,
    Dtype.INT64: np.int64,
    Dtype.STRING: np.object_,
}
_ORT_TYPES = {
    "tensor(float)": Dtype.FLOAT32,
    "tensor(double)": Dtype.FLOAT64,
    "tensor(int64)": Dtype.INT64,
    "tensor(string)": Dtype.STRING,
}
_FATAL = 4
_ORT_FAILURES = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class Scorer:
    """One model in memory, with the schema of its requests; made by `load`."""

    def __init__(self, session: ort.InferenceSession, bundle: Bundle) -> None:
        onnx = bundle.description.onnx
        dtypes = {each.name: each.dtype for each in onnx.inputs}
        features = bundle.description.features
        self.schema = RequestSchema(features, dtypes)
        # With one name attrgetter returns the value itself, not a tuple of one.
        self._read = attrgetter(*self.schema.attributes) if len(features) > 1 else self._read_only_value
        self._names = [feature.name for feature in features]
        self._numpy_types = [_NUMPY_TYPES[dtypes[name]] for name in self._names]
        # Filled for every single row: making arrays anew costs a third of the scoring. One thread only.
        self._cells = [np.empty((1, 1), dtype=each) for each in self._numpy_types]
        self._feed = dict(zip(self._names, self._cells, strict=True))
        self._session = session
        self._outputs = [onnx.label, onnx.probabilities]
        self._positive = onnx.positive_index

    def score_row(self, row: msgspec.Struct) -> Answer:
        """Return the answer to one row; only for the thread of the event loop.

        Raises RequestError (422) when the model answers with NaN or an infinity.
        """
        for cell, value in zip(self._cells, self._read(row), strict=True):
            cell[0, 0] = value
        labels, probabilities = self._session.run(self._outputs, self._feed)
        probability = float(probabilities[0, self._positive])
        if not math.isfinite(probability):
            raise _no_prediction()
        return Answer(str(labels[0]), probability)

    def score_rows(self, rows: Sequence[msgspec.Struct]) -> list[Answer]:
        """Return the answers to many rows; for any thread; raises as `score_row` does."""
        columns = zip(*map(self._read, rows), strict=True)
        feed = {
            name: np.array(column, dtype=dtype).reshape(-1, 1)
            for name, dtype, column in zip(self._names, self._numpy_types, columns, strict=True)
        }
        labels, probabilities = self._session.run(self._outputs, feed)
        positives = probabilities[:, self._positive]
        if not np.isfinite(positives).all():
            raise _no_prediction()
        pairs = zip(labels.tolist(), positives.tolist(), strict=True)
        return [Answer(str(label), probability) for label, probability in pairs]

    def _read_only_value(self, row: msgspec.Struct) -> tuple[Any]:
        return (getattr(row, self.schema.attributes[0]),)


def load(bundle: Bundle) -> Scorer:
    """Return a scorer that has just answered its golden rows; raise BundleError when it cannot."""
    options = ort.SessionOptions()
    # A replica has one core; more threads only wait for each other.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # What fails is raised and logged as JSON; ONNX Runtime's own lines on stderr are not.
    options.log_severity_level = _FATAL
    try:
        session = ort.InferenceSession(bundle.content, options, providers=["CPUExecutionProvider"])
        _check_graph(session, bundle)
        scorer = Scorer(session, bundle)
        _replay_golden_rows(scorer, bundle)
    except _ORT_FAILURES as error:
        raise BundleError(f"model.onnx of {bundle.digest} does not run: {error}") from error
    return scorer


def _check_graph(session: ort.InferenceSession, bundle: Bundle) -> None:
    onnx = bundle.description.onnx
    expected = {each.name: each.dtype for each in onnx.inputs}
    found = {each.name: _ORT_TYPES.get(each.type, each.type) for each in session.get_inputs()}
    if found != expected:
        raise BundleError(f"model.onnx takes {found}, the bundle says {expected}")
    missing = {onnx.label, onnx.probabilities} - {each.name for each in session.get_outputs()}
    if missing:
        raise BundleError(f"model.onnx has no output {', '.join(sorted(missing))}")


def _replay_golden_rows(scorer: Scorer, bundle: Bundle) -> None:
    golden = bundle.description.golden
    try:
        rows = [scorer.schema.decode_row(msgspec.json.encode(row)) for row in golden.rows]
        answers = [scorer.score_row(row) for row in rows]
        batch = scorer.score_rows(rows)
    except RequestError as error:
        raise BundleError(f"a golden row is refused: {error} {error.fields}") from error
    for number, (expected, single, many) in enumerate(zip(golden.expected, answers, batch, strict=True)):
        for answer in (single, many):
            difference = abs(answer.probability - expected.probability)
            # Written so that NaN is a mismatch too.
            if answer.prediction != expected.prediction or not difference <= golden.tolerance:
                raise BundleError(
                    f"golden row {number} mismatch, expected {expected.prediction} {expected.probability:.7f}"
                    f" +- {golden.tolerance:g}, got {answer.prediction} {answer.probability:.7f}"
                )


def _no_prediction() -> RequestError:
    message = "the model gives no finite probability for these values"
    return RequestError(HTTPStatus.UNPROCESSABLE_ENTITY, "no_prediction", message)
