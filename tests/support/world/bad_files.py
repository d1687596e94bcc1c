"""Files that somebody may register to do harm: each small, and each without an end in time or memory."""

import io
import json
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper

# So many levels of ten aliases each: ten to the ninth texts.
LEVELS = 9


def endless_model() -> bytes:
    """Return a classifier of one number that loops for ever before it answers."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Add", ["sum", "one"], ["more"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None, 1]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, [None, 1]),
        ],
    )
    nodes = [
        helper.make_node("Loop", ["turns", "true", "height"], ["looped"], body=body),
        helper.make_node("Concat", ["looped", "looped"], ["probabilities"], axis=1),
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
            helper.make_tensor("turns", TensorProto.INT64, [], [2**62]),
            helper.make_tensor("true", TensorProto.BOOL, [], [True]),
            helper.make_tensor("one", TensorProto.FLOAT, [1, 1], [1.0]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    content: bytes = model.SerializeToString()
    return content


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
