"""Makes a model slow in a share of its requests, or endless or large for some rows, and without another answer.

The graph gets an `If`: for rows whose `column` lies just above a multiple of `PERIOD` it multiplies matrices before it
adds nothing to the probabilities.
"""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

PERIOD = 50.0
SIZE = 384
_ROUNDS = 20


def slowed(trained: Path, directory: Path, *, column: str, share: float, delay_ms: float) -> Path:
    """Return a copy of a trained working tree whose model takes longer in a share of its requests."""
    tree = directory / "slow"
    shutil.copytree(trained, tree, symlinks=True)
    # Without what it was trained from: a model that dvc.lock does not name is refused.
    (tree / "dvc.lock").unlink()
    model = tree / "models" / "model.onnx"
    content = model.read_bytes()
    model.unlink()
    model.write_bytes(content)
    slow_down(model, column=column, share=share, delay_ms=delay_ms)
    return tree


def slow_down(model: Path, *, column: str, share: float, delay_ms: float) -> None:
    """Rewrite the model at `model`: rows in a `share` of the column's values take `delay_ms` more on this machine."""
    rounds = max(1, round(delay_ms / _round_ms()))
    proto = onnx.load(model)
    _insert(proto, column, share, rounds)
    onnx.checker.check_model(proto)
    model.write_bytes(proto.SerializeToString())


def _insert(proto: onnx.ModelProto, column: str, share: float, rounds: int) -> None:
    graph = proto.graph
    output = next(each.name for each in graph.output if each.name == "probabilities")
    for node in graph.node:
        node.output[:] = ["quick_probabilities" if name == output else name for name in node.output]
    constants = {"period": PERIOD, "width": share * PERIOD, "half": 0.5, "none": 0.0}
    graph.initializer.extend(numpy_helper.from_array(np.float32(v), name) for name, v in constants.items())
    weight = np.random.default_rng(1).normal(0, SIZE**-0.5, (SIZE, SIZE)).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(weight, "work"))
    graph.node.extend(
        [
            helper.make_node("Mod", [column, "period"], ["rest"], fmod=1),
            helper.make_node("Less", ["rest", "width"], ["is_slow_row"]),
            helper.make_node("Cast", ["is_slow_row"], ["slow_rows"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["slow_rows"], ["any_slow"], keepdims=0),
            helper.make_node("Greater", ["any_slow", "half"], ["is_slow"]),
            helper.make_node("If", ["is_slow"], ["extra"], then_branch=_working(rounds), else_branch=_idle()),
            helper.make_node("Add", ["quick_probabilities", "extra"], [output]),
        ]
    )


def _working(rounds: int) -> onnx.GraphProto:
    # It begins with what was asked, so that nothing can be computed beforehand.
    nodes = [helper.make_node("Add", ["work", "any_slow"], ["product_0"])]
    for number in range(rounds):
        nodes.append(helper.make_node("MatMul", [f"product_{number}", "work"], [f"product_{number + 1}"]))
    nodes.append(helper.make_node("ReduceMax", [f"product_{rounds}"], ["largest"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["largest", "none"], ["nothing"]))
    return helper.make_graph(nodes, "working", [], [_scalar("nothing")])


def _idle() -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node("Identity", ["none"], ["still_nothing"])], "idle", [], [_scalar("still_nothing")]
    )


def _scalar(name: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [])


def _round_ms() -> float:
    """Return the milliseconds of one multiplication, in one thread, the quickest of a few tries."""
    graph = onnx.load_from_string(_alone())
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(graph.SerializeToString(), options)
    taken = []
    for _ in range(5):
        begun = time.perf_counter()
        session.run(None, {"x": np.ones((1, 1), dtype=np.float32)})
        taken.append(time.perf_counter() - begun)
    return min(taken) * 1000 / _ROUNDS


def _alone() -> bytes:
    """Return a model that does nothing but the work."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])
    result = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 1])
    node = helper.make_node("Identity", ["x"], ["probabilities"])
    graph = helper.make_graph([node], "alone", [value], [result])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    _insert(proto, "x", share=1.0, rounds=_ROUNDS)
    content: bytes = proto.SerializeToString()
    return content


def hang_on(model: bytes, *, column: str, above: float) -> bytes:
    """Return the model with work that never ends for a row whose `column` is above a value, and no other change."""
    return _with_extra(model, column, above, _endless())


def fill_on(model: bytes, *, column: str, above: float) -> bytes:
    """Return the model with four bytes for each unit of a row's `column` above a value, and no other change."""
    return _with_extra(model, column, above, _large())


def _with_extra(model: bytes, column: str, above: float, branch: onnx.GraphProto) -> bytes:
    proto = onnx.load_from_string(model)
    graph = proto.graph
    output = next(each.name for each in graph.output if each.name == "probabilities")
    for node in graph.node:
        node.output[:] = ["quick_probabilities" if name == output else name for name in node.output]
    graph.initializer.extend(
        [numpy_helper.from_array(np.float32(above), "above"), numpy_helper.from_array(np.float32(0), "none")]
    )
    graph.node.extend(
        [
            helper.make_node("ReduceMax", [column], ["largest_value"], keepdims=0),
            helper.make_node("Greater", ["largest_value", "above"], ["is_above"]),
            helper.make_node("If", ["is_above"], ["extra"], then_branch=branch, else_branch=_idle()),
            helper.make_node("Add", ["quick_probabilities", "extra"], [output]),
        ]
    )
    onnx.checker.check_model(proto)
    content: bytes = proto.SerializeToString()
    return content


def _endless() -> onnx.GraphProto:
    rounds, go_on = (
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (("round", TensorProto.INT64), ("go_on", TensorProto.BOOL))
    )
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Add", ["sum", "largest_value"], ["next_sum"]),
        ],
        "round",
        [rounds, go_on, _scalar("sum")],
        [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []), _scalar("next_sum")],
    )
    most = numpy_helper.from_array(np.int64(2**62), "most_rounds")
    nodes = [helper.make_node("Loop", ["most_rounds", "is_above", "none"], ["endless"], body=body)]
    return helper.make_graph(nodes, "endless", [], [_scalar("endless")], initializer=[most])


def _large() -> onnx.GraphProto:
    nodes = [
        helper.make_node("Cast", ["largest_value"], ["count"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["count", "one"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["large"], keepdims=0),
    ]
    one = numpy_helper.from_array(np.array([1], dtype=np.int64), "one")
    return helper.make_graph(nodes, "large", [], [_scalar("large")], initializer=[one])
