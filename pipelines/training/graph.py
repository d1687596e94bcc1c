"""Gives the inputs of an ONNX graph the names that clients know, whatever they are, and its labels their texts."""

import json
from collections.abc import Iterator, Mapping

import onnx
from onnx import helper

from pipelines.packaging.onnx_model import CLASSES_KEY, output_names


def rename(proto: onnx.ModelProto, inputs: Mapping[str, str]) -> None:
    """Rename the inputs `old -> new`, and `label` and `probabilities` where an input takes that name.

    What else in the graph is called like an input gets another name.
    """
    names = {name for graph in _graphs(proto.graph) for name in _names(graph)}
    label, probabilities = output_names(inputs.values())
    wanted = {**inputs, "label": label, "probabilities": probabilities}
    taken = names | set(wanted.values())
    for name in sorted(names & set(wanted.values()) - set(wanted)):
        wanted[name] = _fresh(name, taken)
        taken.add(wanted[name])
    for graph in _graphs(proto.graph):
        _apply(graph, wanted)


def label_by_text(proto: onnx.ModelProto, classes: tuple[str, ...]) -> None:
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
            keys_int64s=list(range(len(classes))),
            values_strings=list(classes),
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
