"""Files that somebody may register to do harm: each small, and each without an end in time or memory."""

import io
import json
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper

# So many levels of ten aliases each: ten to the ninth texts.
LEVELS = 9
_ENDLESS_SCANS = 200


def endless_model() -> bytes:
    """Return a classifier of one number that computes for hours before it answers, without a loop.

    It goes through a long row of numbers again and again.
    """
    body = helper.make_graph(
        [helper.make_node("Add", ["sum", "number"], ["more"])],
        "body",
        [
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None, 1]),
            helper.make_tensor_value_info("number", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor_value_info("more", TensorProto.FLOAT, [None, 1])],
    )
    nodes = [helper.make_node("Expand", ["one", "length"], ["numbers"])]
    sums = ["height", *(f"sum_{number}" for number in range(_ENDLESS_SCANS))]
    for before, after in pairwise(sums):
        nodes.append(helper.make_node("Scan", [before, "numbers"], [after], body=body, num_scan_inputs=1))
    nodes += [
        helper.make_node("Concat", [sums[-1], sums[-1]], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "endless",
        [helper.make_tensor_value_info("height", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
        [
            helper.make_tensor("one", TensorProto.FLOAT, [], [1.0]),
            helper.make_tensor("length", TensorProto.INT64, [1], [10_000_000]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    content: bytes = model.SerializeToString()
    return content


def foreign_model(plain: bytes) -> bytes:
    """Return a model with the inputs and outputs of another, which answers with an operator that is no standard one."""
    model = onnx.load_model_from_string(plain)
    numbers = model.graph.output[1].name
    for node in model.graph.node:
        node.output[:] = ["plainly" if name == numbers else name for name in node.output]
    model.graph.node.append(helper.make_node("Gelu", ["plainly"], [numbers], domain="com.microsoft"))
    model.opset_import.add(domain="com.microsoft", version=1)
    content: bytes = model.SerializeToString()
    return content


def two_models_in_one(plain: bytes, other: bytes, place: Path) -> bytes:
    """Return a file that is the model `plain` as ONNX, and `other` in ONNX Runtime's own format.

    That begins with the place of its content, four bytes, and ORTM; the first field of ONNX may be the same bytes.
    `place` is a file that is written meanwhile.
    """
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(place)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.save_model_format", "ORT")
    ort.InferenceSession(other, options, providers=["CPUExecutionProvider"])
    own = place.read_bytes()
    model = onnx.load_model_from_string(plain)
    # Version 8, a producer called O, and 84 bytes of field 10, which ONNX does not have: R, T, M.
    begin: bytes = bytes([0x08, model.ir_version, 0x12, 1]) + b"ORTM" + bytes(83)
    model.ClearField("ir_version")
    model.ClearField("producer_name")
    rest: bytes = model.SerializeToString()
    begin += rest
    shift = int.from_bytes(begin[:4], "little") - int.from_bytes(own[:4], "little")
    assert shift % 16 == 0, "what is in the format is aligned"
    # All else is in the field of comments, whose length takes four bytes.
    length = shift + len(own) - len(begin) - 5
    varint = bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21])
    begin += b"\x32" + varint
    return begin + bytes(shift + 8 - len(begin)) + own[8:]


def inflating_parquet(gib: int = 2) -> bytes:
    """Return a Parquet file of some kilobytes whose one column takes so many GiB."""
    rows = 8 * 1024 * 1024
    table = pa.table({"height": np.zeros(rows)})
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, compression="zstd") as writer:
        for _ in range(gib * 1024**3 // (8 * rows)):
            writer.write_table(table)
    return buffer.getvalue()


def alias_bomb() -> bytes:
    """Return an MLmodel of nested aliases, merged into one mapping."""
    lines = ["a0: &a0 {" + ", ".join(f"k{n}: x" for n in range(10)) + "}"]
    for level in range(1, LEVELS):
        merged = ", ".join(f"*a{level - 1}" for _ in range(10))
        lines.append(f"a{level}: &a{level} {{<<: [{merged}]}}")
    lines += [f"flavors: {{onnx: {{data: *a{LEVELS - 1}}}}}", "signature: {inputs: '[]'}"]
    return "\n".join(lines).encode()


class _Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('a pickle was opened')",))


def pickled() -> bytes:
    """Return a pickle that does something when it is opened."""
    return pickle.dumps(_Harm())


def mlmodel(**columns: str) -> bytes:
    """Return an MLmodel as MLflow writes it, of an ONNX model with these columns."""
    inputs = json.dumps([{"name": name, "type": kind} for name, kind in columns.items()])
    return json.dumps({"flavors": {"onnx": {"data": "model.onnx"}}, "signature": {"inputs": inputs}}).encode()
