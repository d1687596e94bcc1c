"""Scores rows with ONNX Runtime; a model that does not answer its golden rows as at packaging is refused."""

from collections.abc import Sequence

import msgspec
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from app.errors import BundleError, RequestError
from app.model.answers import difference, reader_of
from app.model.bundle import Bundle
from app.model.description import AnyAnswer, Dtype, Task, read_answers
from app.model.inputs import ModelInputs
from app.model.schema import RequestSchema

_ORT_TYPES = {
    "tensor(float)": Dtype.FLOAT32,
    "tensor(double)": Dtype.FLOAT64,
    "tensor(int64)": Dtype.INT64,
    "tensor(bool)": Dtype.BOOL,
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
        description = bundle.description
        dtypes = {name: each.dtype for each in description.onnx.inputs for name in each.features}
        self.task: Task = description.task
        self.classes = description.output.classes
        self.features = tuple(feature.name for feature in description.features)
        self.schema = RequestSchema(description.features, dtypes)
        self._inputs = ModelInputs(description, self.schema.attributes)
        self._reader = reader_of(description)
        self._session = session

    def score_row(self, row: msgspec.Struct) -> AnyAnswer:
        """Return the answer to one row; only for the thread of the event loop.

        Raises RequestError (422) when the model answers with NaN or an infinity.
        """
        return self._reader.one(self._session.run(self._reader.outputs, self._inputs.of_row(row)))

    def score_rows(self, rows: Sequence[msgspec.Struct]) -> list[AnyAnswer]:
        """Return the answers to many rows; for any thread; raises as `score_row` does."""
        return self._reader.many(self._session.run(self._reader.outputs, self._inputs.of_rows(rows)))


def load(bundle: Bundle) -> Scorer:
    """Return a scorer that has just answered its golden rows; raise BundleError when it cannot."""
    options = ort.SessionOptions()
    # A replica has one core; more threads only wait for each other.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # What fails is raised and logged as JSON; ONNX Runtime's own lines on stderr are not.
    options.log_severity_level = _FATAL
    # A file can be a model of ONNX Runtime's own format as well, which packaging has not looked at.
    options.add_session_config_entry("session.load_model_format", "ONNX")
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
    expected = {each.name: (each.dtype, len(each.features)) for each in onnx.inputs}
    found: dict[str, tuple[str, int | None]] = {}
    for each in session.get_inputs():
        # A width that the model leaves open fits any number of features.
        _, asked = expected.get(each.name, ("", None))
        width = each.shape[-1] if each.shape and isinstance(each.shape[-1], int) else asked
        found[each.name] = (_ORT_TYPES.get(each.type, each.type), width)
    if found != expected:
        raise BundleError(f"model.onnx takes {found}, the bundle says {expected}")
    wanted = {name for name in (onnx.label, onnx.probabilities, onnx.value) if name}
    missing = wanted - {each.name for each in session.get_outputs()}
    if missing:
        raise BundleError(f"model.onnx has no output {', '.join(sorted(missing))}")


def _replay_golden_rows(scorer: Scorer, bundle: Bundle) -> None:
    golden = bundle.description.golden
    recorded = read_answers(bundle.description)
    try:
        rows = [scorer.schema.decode_row(msgspec.json.encode(row)) for row in golden.rows]
        answers = [scorer.score_row(row) for row in rows]
        batch = scorer.score_rows(rows)
    except RequestError as error:
        raise BundleError(f"a golden row is refused: {error} {error.fields}") from error
    for number, (expected, single, many) in enumerate(zip(recorded, answers, batch, strict=True)):
        for answer in (single, many):
            # Written so that NaN is a mismatch too.
            if not difference(answer, expected) <= golden.tolerance:
                raise BundleError(
                    f"golden row {number} mismatch, expected {_shown(expected)} +- {golden.tolerance:g},"
                    f" got {_shown(answer)}"
                )


def _shown(answer: AnyAnswer) -> str:
    return " ".join(str(value) for value in msgspec.structs.astuple(answer))
