"""Gives the inputs of an ONNX graph the names that clients know, whatever they are, and its labels their texts."""

import json
from collections.abc import Collection, Iterator, Mapping

import onnx
from onnx import helper

from pipelines.packaging.onnx_model import CLASSES_KEY


def rename(proto: onnx.ModelProto, new: Mapping[str, str]) -> None:
    """Rename inputs and outputs `old -> new`; what else in the graph is called like one of them gets another name."""
    names = {name for graph in _graphs(proto.graph) for name in _names(graph)}
    wanted = dict(new)
    taken = names | set(wanted.values())
    for name in sorted(names & set(wanted.values()) - set(wanted)):
        wanted[name] = _fresh(name, taken)
        taken.add(wanted[name])
    for graph in _graphs(proto.graph):
        _apply(graph, wanted)


def free_name(name: str, inputs: Collection[str]) -> str:
    """Return the name of an output: this one, or if an input is called so, with `output_` before it."""
    while name in inputs:
        name = f"output_{name}"
    return name


def split_time(proto: onnx.ModelProto, name: str, day: str, second: str, *, day_s: int) -> None:
    """Put an input of float64 seconds in the place of two: the whole days (float32), and the seconds that are left."""
    graph = proto.graph
    kept = [each for each in graph.input if each.name not in (day, second)]
    position = next(at for at, each in enumerate(graph.input) if each.name == day)
    kept.insert(position, helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, [None, 1]))
    del graph.input[:]
    graph.input.extend(kept)
    length = f"{name}_day_s"
    graph.initializer.append(helper.make_tensor(length, onnx.TensorProto.DOUBLE, [], [float(day_s)]))
    before = [
        helper.make_node("Div", [name, length], [f"{name}_days"]),
        helper.make_node("Floor", [f"{name}_days"], [f"{name}_whole"]),
        helper.make_node("Mul", [f"{name}_whole", length], [f"{name}_begun"]),
        helper.make_node("Sub", [name, f"{name}_begun"], [f"{name}_left"]),
        helper.make_node("Cast", [f"{name}_whole"], [day], to=onnx.TensorProto.FLOAT),
        helper.make_node("Cast", [f"{name}_left"], [second], to=onnx.TensorProto.FLOAT),
    ]
    nodes = [*before, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def label_by_text(proto: onnx.ModelProto, texts: Mapping[int, str]) -> None:
    """Let the output `label` be the text of a class where the graph answers with its number."""
    output = next(each for each in proto.graph.output if each.name == "label")
    for graph in _graphs(proto.graph):
        _apply(graph, {"label": "label_number"})
    proto.graph.node.append(
        helper.make_node(
            "LabelEncoder",
            ["label_number"],
            ["label"],
            domain="ai.onnx.ml",
            keys_int64s=list(texts),
            values_strings=list(texts.values()),
        )
    )
    # Texts for numbers are since version 2, in which nothing else changed.
    for domain in proto.opset_import:
        if domain.domain == "ai.onnx.ml":
            domain.version = max(domain.version, 2)
    output.CopyFrom(helper.make_tensor_value_info("label", onnx.TensorProto.STRING, [None]))


def note_classes(proto: onnx.ModelProto, classes: tuple[str, ...]) -> None:
    """Write into the model which class each column of `probabilities` is of."""
    helper.set_model_props(proto, {CLASSES_KEY: json.dumps(classes, ensure_ascii=False)})


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield a graph and every graph nested in it, however deep."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _graphs(inner)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        yield value.name
    for sparse in graph.sparse_initializer:
        yield sparse.values.name
    for node in graph.node:
        yield from (*node.input, *node.output)


def _apply(graph: onnx.GraphProto, wanted: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = wanted.get(value.name, value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = wanted.get(sparse.values.name, sparse.values.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [wanted.get(name, name) for name in names]


def _fresh(name: str, taken: set[str]) -> str:
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"
