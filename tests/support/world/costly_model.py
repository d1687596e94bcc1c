"""Makes a model that computes or holds more than it needs to, of constants alone or of any row that it is asked."""

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

_SIZE = 1500


def working_on(model: bytes, rounds: int) -> bytes:
    """Return the model with so many products of large matrices of constants, each a tenth of a second or so."""
    nodes = [helper.make_node("ConstantOfShape", ["side"], ["product_0"])]
    nodes += [
        helper.make_node("MatMul", [f"product_{number}", f"product_{number}"], [f"product_{number + 1}"])
        for number in range(rounds)
    ]
    return with_nodes(model, [*nodes, _largest(f"product_{rounds}")], side=np.array([_SIZE, _SIZE]))


def holding(model: bytes, megabytes: int) -> bytes:
    """Return the model with a tensor of so many MiB, of constants."""
    nodes = [helper.make_node("ConstantOfShape", ["count"], ["zeros"]), _largest("zeros")]
    return with_nodes(model, nodes, count=np.array([megabytes * 2**20 // 4]))


def with_nodes(model: bytes, nodes: list[NodeProto], **constants: np.ndarray) -> bytes:
    """Return the model with nodes that make a tensor `extra`, which is added to its probabilities times nothing."""
    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    for node in graph.node:
        node.output[:] = ["plain_probabilities" if name == "probabilities" else name for name in node.output]
    constants |= {"nothing": np.array(0, dtype=np.float32)}
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph.node.extend(
        [
            *nodes,
            helper.make_node("Cast", ["extra"], ["extra_number"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["extra_number", "nothing"], ["no_more"]),
            helper.make_node("Add", ["plain_probabilities", "no_more"], ["probabilities"]),
        ]
    )
    content: bytes = proto.SerializeToString()
    return content


def _largest(name: str) -> NodeProto:
    return helper.make_node("ReduceMax", [name], ["extra"], keepdims=0)
