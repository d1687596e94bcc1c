"""Bundles of format 2 of each task, with a feature of each type: graphs made by hand, whose answers can be foretold.

A row's sum is that of its numbers, days and seconds since 2024, 1 for true, 10 for "b" and 100 for "hello"; what is
missing counts 1000. A regression answers it, two classes ask whether it is above 0, several take it modulo their
number.
"""

import math
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.support.world.bundles import sha256, write_bundle

_DAY, _SECOND = (date(2024, 1, 1) - date(1970, 1, 1)).days, int(datetime(2024, 1, 1, tzinfo=UTC).timestamp())
MISSING = 1000.0
FEATURES: list[dict[str, Any]] = [
    {"name": "count", "type": "integer", "minimum": None, "maximum": None, "observed": None, "nullable": True},
    {"name": "net weight", "type": "number", "minimum": -5.0, "maximum": None, "observed": None, "nullable": True},
    {"name": "flag", "type": "boolean", "nullable": True},
    {"name": "kind", "type": "category", "categories": ["a", "b"], "nullable": True},
    {"name": "words", "type": "text", "maximum_length": 20, "nullable": True},
    {"name": "day", "type": "date", "nullable": True},
    {"name": "at", "type": "datetime", "nullable": True},
    {"name": "label", "type": "number", "minimum": None, "maximum": None, "observed": None, "nullable": False},
]
TEXTS = ("kind", "words")
ROW: dict[str, Any] = {
    "count": 2, "net weight": 0.5, "flag": True, "kind": "b", "words": "hello", "day": "2024-01-03",
    "at": "2024-01-01T00:00:07Z", "label": -3.0,
}  # fmt: skip
CLASSES: dict[str, list[Any]] = {"binary": [False, True], "multiclass": [0, 1, 2], "regression": []}


def the_sum(row: dict[str, Any]) -> float:
    """Return what the graph adds up of a row, in which a value may be missing."""
    worth = {
        "flag": float, "kind": {"a": 0.0, "b": 10.0}.get, "words": {"hello": 100.0}.get,
        "day": lambda text: (date.fromisoformat(text) - date(2024, 1, 1)).days,
        "at": lambda text: (datetime.fromisoformat(text) - datetime(2024, 1, 1, tzinfo=UTC)).total_seconds(),
    }  # fmt: skip
    total = 0.0
    for feature in FEATURES:
        value = row.get(feature["name"])
        total += MISSING if value is None else worth.get(feature["name"], float)(value) or 0.0
    return total


def answer_of(task: str, row: dict[str, Any]) -> dict[str, Any]:
    """Return what a bundle of the task answers to a row."""
    total = the_sum(row)
    if task == "regression":
        return {"prediction": total}
    if task == "binary":
        return {"prediction": total > 0, "probability": float(total > 0)}
    index = int(math.fmod(total, 3))
    return {"prediction": index, "probabilities": {str(each): float(each == index) for each in (0, 1, 2)}}


def make_typed_bundle(
    directory: Path, task: str, *, packed: bool = False, changes: dict[str, Any] | None = None
) -> tuple[Path, str]:
    """Write a bundle of a task, with other parts in its description; return its path and digest.

    `packed` gives all numbers in one tensor [N, n].
    """
    numbers = [feature["name"] for feature in FEATURES if feature["name"] not in TEXTS]
    inputs = [{"name": "numbers", "dtype": "float64", "features": numbers}] if packed else []
    inputs += [{"name": name, "dtype": "float64", "features": [name]} for name in numbers if not packed]
    inputs += [{"name": name, "dtype": "string", "features": [name]} for name in TEXTS]
    content = _graph(task, inputs)
    classifies = task != "regression"
    rows = [ROW, ROW | {"label": 40.0, "count": None}, {"label": 1.0}]
    description: dict[str, Any] = {
        "schema_version": 2,
        "model": "typed-model",
        "task": task,
        "features": FEATURES,
        "output": {"target": "y", "classes": CLASSES[task], "positive": True if task == "binary" else None},
        "onnx": {
            "inputs": inputs,
            "label": "out_label" if classifies else None,
            "probabilities": "out_probabilities" if classifies else None,
            "value": None if classifies else "out_value",
        },
        "golden": {"rows": rows, "expected": [answer_of(task, row) for row in rows], "tolerance": 1e-5},
        "provenance": {
            "run_id": None,
            "git_commit": None,
            "datasets": {"train": None, "evaluation": sha256(b"evaluation")},
            "dependencies": sha256(b"dependencies"),
        },
        "files": {"model.onnx": sha256(content)},
    }
    return write_bundle(directory, description | (changes or {}), content)


def _graph(task: str, inputs: list[dict[str, Any]]) -> bytes:
    """Build the graph: each input to its worth, summed over columns and inputs, then the task's outputs."""
    nodes, constants, parts = [], {}, []

    def constant(name: str, value: Any, kind: Any = np.float64) -> str:
        constants[name] = numpy_helper.from_array(np.array(value, dtype=kind), name)
        return name

    for number, each in enumerate(inputs):
        worth = f"worth_{number}"
        if each["dtype"] == "string":
            keys = {"kind": ["", "b"], "words": ["", "hello"]}[each["name"]]
            values = {"kind": [MISSING, 10.0], "words": [MISSING, 100.0]}[each["name"]]
            nodes.append(
                helper.make_node(
                    "LabelEncoder", [each["name"]], [f"encoded_{number}"], domain="ai.onnx.ml", keys_strings=keys,
                    values_floats=values, default_float=0.0,
                )
            )  # fmt: skip
            nodes.append(helper.make_node("Cast", [f"encoded_{number}"], [worth], to=TensorProto.DOUBLE))
        else:
            base = [{"day": _DAY, "at": _SECOND}.get(name, 0) for name in each["features"]]
            nodes += [
                helper.make_node("IsNaN", [each["name"]], [f"missing_{number}"]),
                helper.make_node("Sub", [each["name"], constant(f"base_{number}", [base])], [f"less_{number}"]),
                helper.make_node(
                    "Where", [f"missing_{number}", constant("missing", MISSING), f"less_{number}"], [f"known_{number}"]
                ),
                helper.make_node(
                    "ReduceSum", [f"known_{number}", constant("axis", [1], np.int64)], [worth], keepdims=1
                ),
            ]
        parts.append(worth)
    nodes.append(helper.make_node("Sum", parts, ["total"]))
    outputs = _outputs(task, nodes, constant)
    declared = [
        helper.make_tensor_value_info(
            each["name"], TensorProto.STRING if each["dtype"] == "string" else TensorProto.DOUBLE,
            [None, len(each["features"])],
        )
        for each in inputs
    ]  # fmt: skip
    graph = helper.make_graph(nodes, "typed", declared, outputs, list(constants.values()))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _outputs(task: str, nodes: list[Any], constant: Any) -> list[Any]:
    if task == "regression":
        nodes.append(helper.make_node("Identity", ["total"], ["out_value"]))
        return [helper.make_tensor_value_info("out_value", TensorProto.DOUBLE, [None, 1])]
    count = len(CLASSES[task])
    if task == "binary":
        nodes += [
            helper.make_node("Greater", ["total", constant("zero", 0.0)], ["above"]),
            helper.make_node("Cast", ["above"], ["index"], to=TensorProto.INT64),
            helper.make_node("Squeeze", ["index", constant("last", [1], np.int64)], ["index_1d"]),
            helper.make_node("Gather", [constant_texts(constant), "index_1d"], ["out_label"]),
        ]
        label = helper.make_tensor_value_info("out_label", TensorProto.STRING, [None])
    else:
        nodes += [
            helper.make_node("Mod", ["total", constant("classes", float(count))], ["rest"], fmod=1),
            helper.make_node("Cast", ["rest"], ["index"], to=TensorProto.INT64),
            helper.make_node("Squeeze", ["index", constant("last", [1], np.int64)], ["index_1d"]),
            helper.make_node("Identity", ["index_1d"], ["out_label"]),
        ]
        label = helper.make_tensor_value_info("out_label", TensorProto.INT64, [None])
    nodes.append(
        helper.make_node(
            "OneHot", ["index_1d", constant("depth", count, np.int64), constant("off_on", [0, 1], np.float32)],
            ["out_probabilities"],
        )
    )  # fmt: skip
    return [label, helper.make_tensor_value_info("out_probabilities", TensorProto.FLOAT, [None, count])]


def constant_texts(constant: Any) -> str:
    """Return the name of the constant that holds a boolean's labels as texts."""
    name: str = constant("labels", ["false", "true"], np.object_)
    return name
