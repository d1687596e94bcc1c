"""What running a model may take: no graph without an end is run, and a first try at rows has limits of its own."""

import resource
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import pandas as pd
from numpy.typing import NDArray

from pipelines.domain.bundle import Feature
from pipelines.domain.description import ModelInput
from pipelines.errors import NotServable
from pipelines.packaging.onnx_model import OnnxModel, ServedModel, graphs_of

_MIB = 1024 * 1024
# They turn as often as a value says, which may be 2^63 times.
_LOOPS = frozenset({"Loop", "SequenceMap"})
_SCAN = "Scan"
# What is known of a tensor without its values.
_ABOUT = frozenset({"Shape", "Size"})
# The inputs whose values say how large the output is, by operator.
_SIZES = {
    "AffineGrid": {1},
    "BlackmanWindow": {0},
    "CenterCropPad": {1},
    "Col2Im": {1, 2},
    "ConstantOfShape": {0},
    "DFT": {1},
    "Expand": {1},
    "HammingWindow": {0},
    "HannWindow": {0},
    "MaxUnpool": {2},
    "MelWeightMatrix": {0, 1},
    "OneHot": {1},
    "Pad": {1},
    "Range": {0, 1, 2},
    "Resize": {1, 2, 3},
    "STFT": {1, 3},
    "Tile": {1},
    "Upsample": {1},
}


def refuse_unbounded(content: bytes) -> None:
    """Raise NotServable for a graph whose time or memory the values of a request decide, or that has no end.

    `content` is a model that `OnnxModel` reads. What converters of scikit-learn and of boosted trees write is none.
    """
    graph = onnx.load_model_from_string(content).graph
    valued = _valued(graph)
    for node, turning in _nodes(graph):
        if node.op_type in _LOOPS or (node.op_type == _SCAN and turning):
            where = " in another one" if node.op_type == _SCAN else ""
            raise NotServable(
                f"the ONNX model uses operator {node.op_type}{where}, which may go on for any time",
                next="export it without loops, as converters of scikit-learn and of boosted trees do",
            )
        told = [name for at, name in enumerate(node.input) if at in _SIZES.get(node.op_type, ()) and name in valued]
        if told:
            raise NotServable(
                f"the ONNX model makes a tensor by operator {node.op_type} as large as the values of a request say"
                f" ({told[0]!r})",
                next="export it with sizes that follow from the number of rows alone",
            )


def try_rows(
    path: Path,
    features: tuple[Feature, ...],
    inputs: tuple[ModelInput, ...],
    rows: pd.DataFrame,
    *,
    row_s: float,
    memory_mb: int,
) -> float:
    """Open a model, ask it each of the rows alone, and return the most that one took, in seconds of a processor.

    Raises NotServable for a model that may not be run, that is still at a row after `row_s`, or that needs more than
    `memory_mb`. One operator is not interrupted.
    """
    with _memory_left(memory_mb) as given_mb:
        try:
            # Computed in each run, what follows from constants alone is within the limits as well.
            opened = OnnxModel.load(path, eager=False)
            refuse_unbounded(path.read_bytes())
            model = ServedModel(opened, features, inputs)
            feeds = model.feeds(rows)
            alone = [{name: values[[at]] for name, values in feeds.items()} for at in range(len(rows))]
            return max((_seconds(model, row, row_s) for row in alone), default=0.0)
        except MemoryError:
            raise NotServable(
                f"the ONNX model needs more than {given_mb:,} MB of memory to answer one row",
                next="register a smaller model",
            ) from None


def _seconds(model: ServedModel, row: Mapping[str, NDArray[Any]], within_s: float) -> float:
    begun = time.process_time()
    model.model.run(row, 1, within_s=within_s)
    return time.process_time() - begun


@contextmanager
def _memory_left(megabytes: int) -> Iterator[int]:
    """Let this process have so many MiB more, or what its own bound leaves if that is less, which is yielded."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    most = min([held + megabytes * _MIB] + [each for each in (soft, hard) if each != resource.RLIM_INFINITY])
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield max(0, most - held) // _MIB
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _nodes(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, bool]]:
    """Yield every node, however deep it is nested, and whether that is in a Scan."""
    pending = [(graph, False)]
    while pending:
        inside, turning = pending.pop()
        for node in inside.node:
            yield node, turning
            pending += [(each, turning or node.op_type == _SCAN) for each in graphs_of(node)]


def _valued(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the tensors whose values follow from those of a request, and not from its size alone.

    Nodes may stand in any order, and a graph in another one sees the names around it.
    """
    follows: dict[str, list[list[str]]] = defaultdict(list)
    for node, _ in _nodes(graph):
        if node.op_type in _ABOUT:
            continue
        results = list(node.output)
        for inner in graphs_of(node):
            results += [each.name for each in inner.input]
            for each in inner.output:
                follows[each.name].append(list(node.output))
        for name in node.input:
            follows[name].append(results)
    constant = {each.name for each in graph.initializer}
    pending = [each.name for each in graph.input if each.name not in constant]
    found = set(pending)
    while pending:
        # Once: a name is pending no second time.
        for results in follows.pop(pending.pop(), ()):
            new = set(results) - found
            found |= new
            pending += new
    return found - {""}
