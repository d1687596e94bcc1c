"""What a graph may take is known before it is run: no loop, and no tensor as large as a request says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from pipelines.errors import NotServable
from pipelines.packaging.onnx_bounds import refuse_unbounded
from tests.support.world.bad_files import endless_model
from tests.support.world.bundles import make_bundle
from tests.support.world.costly_model import holding, with_nodes, working_on
from tests.support.world.slow_model import fill_on, hang_on, slow_down

NUMBERS = np.random.default_rng(0).random((40, 3))
NEAR = NUMBERS[:, 0] > 0.5
TEXTS = np.array(["red fox", "blue dog sits", "a fox"] * 5)
ONE = np.array([1])
VALUE = [
    helper.make_node("ReduceMax", ["income"], ["most"], keepdims=0),
    helper.make_node("Cast", ["most"], ["count"], to=TensorProto.INT64),
    helper.make_node("Reshape", ["count", "one"], ["size"]),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return (make_bundle(tmp_path_factory.mktemp("plain"))[0] / "model.onnx").read_bytes()


def largest(name: str) -> NodeProto:
    return helper.make_node("ReduceMax", [name], ["extra"], keepdims=0)


def scanning(body: list[NodeProto]) -> NodeProto:
    """Return a Scan over `row` whose turns do what `body` says to make `next` of `state` and `number`."""
    numbers = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("state", "number", "next")]
    return helper.make_node(
        "Scan", ["nothing", "row"], ["extra"], num_scan_inputs=1,
        body=helper.make_graph(body, "turn", numbers[:2], numbers[2:]),
    )  # fmt: skip


@pytest.mark.parametrize("above", [1e9, -1.0])
def test_a_loop_is_refused_wherever_it_stands(plain: bytes, above: float) -> None:
    with pytest.raises(NotServable, match="operator Loop, which may go on for any time"):
        refuse_unbounded(hang_on(plain, column="income", above=above))


def test_a_tensor_as_large_as_a_value_is_refused_in_a_branch_as_well(plain: bytes) -> None:
    with pytest.raises(NotServable, match=r"by operator ConstantOfShape as large as the values of a request say"):
        refuse_unbounded(fill_on(plain, column="income", above=1e9))


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("ConstantOfShape", ["size"], ["made"]), largest("made")],
        [helper.make_node("Expand", ["one", "size"], ["made"]), largest("made")],
        [helper.make_node("Tile", ["one", "size"], ["made"]), largest("made")],
        [helper.make_node("Range", ["zero", "count", "step"], ["made"]), largest("made")],
        [helper.make_node("Range", ["count", "zero", "step"], ["made"]), largest("made")],
        [helper.make_node("OneHot", ["one", "count", "pair"], ["made"]), largest("made")],
    ],
    ids=lambda nodes: f"{nodes[0].op_type}-{list(nodes[0].input).index('count') if 'count' in nodes[0].input else 0}",
)
@pytest.mark.parametrize("order", [1, -1])
def test_an_operator_that_makes_a_size_of_a_value_is_refused_in_any_order_of_nodes(
    plain: bytes, nodes: list[NodeProto], order: int
) -> None:
    told = with_nodes(
        plain, [*VALUE, *nodes][::order], one=ONE, zero=np.array(0), step=np.array(1), pair=np.array([0, 1])
    )
    with pytest.raises(NotServable, match=f"by operator {nodes[0].op_type} as large as"):
        refuse_unbounded(told)


def test_a_scan_goes_through_a_row_and_none_goes_on_in_another(plain: bytes) -> None:
    adds = helper.make_node("Add", ["state", "number"], ["next"])
    row = np.ones(3, dtype=np.float32)
    refuse_unbounded(with_nodes(plain, [scanning([adds])], row=row))

    inner = scanning([adds])
    inner.output[:] = ["next"]
    with pytest.raises(NotServable, match="operator Scan in another one"):
        refuse_unbounded(with_nodes(plain, [scanning([inner])], row=row))


def test_what_a_value_decides_in_a_scan_is_followed_out_of_it(plain: bytes) -> None:
    counts = [
        helper.make_node("Reshape", ["most", "one"], ["flat"]),
        helper.make_node("Add", ["state", "number"], ["sum"]),
        helper.make_node("Add", ["sum", "most"], ["next"]),
    ]
    scan = scanning(counts)
    scan.output[:] = ["total"]
    nodes = [
        VALUE[0],
        scan,
        helper.make_node("Cast", ["total"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["whole", "one"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["made"]),
        largest("made"),
    ]
    with pytest.raises(NotServable, match="by operator ConstantOfShape"):
        refuse_unbounded(with_nodes(plain, nodes, one=ONE, row=np.ones(3, dtype=np.float32)))


def test_a_size_by_the_number_of_rows_or_of_constants_is_bounded(plain: bytes, tmp_path: Path) -> None:
    by_rows = [
        helper.make_node("Shape", ["income"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["made"]),
        largest("made"),
    ]
    slow = tmp_path / "model.onnx"
    slow.write_bytes(plain)
    slow_down(slow, column="income", share=0.1, delay_ms=1)

    for content in (plain, with_nodes(plain, by_rows), holding(plain, 4), working_on(plain, 2), endless_model()):
        refuse_unbounded(content)
    refuse_unbounded(slow.read_bytes())


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [
        (lambda: KNeighborsClassifier(weights="distance").fit(NUMBERS, NEAR), FloatTensorType([None, 3])),
        (lambda: KNeighborsRegressor(metric="manhattan").fit(NUMBERS, NUMBERS[:, 0]), FloatTensorType([None, 3])),
        (lambda: GaussianProcessRegressor(alpha=1).fit(NUMBERS, NUMBERS[:, 0]), FloatTensorType([None, 3])),
        (lambda: TfidfVectorizer(ngram_range=(1, 2)).fit(TEXTS), StringTensorType([None])),
    ],
    ids=["neighbours", "distances", "process", "texts"],
)  # fmt: skip
def test_converters_write_nothing_unbounded(estimator: Callable[[], Any], kind: Any) -> None:
    model = convert_sklearn(estimator(), initial_types=[("x", kind)])
    assert {"Scan", "Range", "ConstantOfShape", "Tokenizer", "TopK"} & {node.op_type for node in model.graph.node}
    refuse_unbounded(model.SerializeToString())


def test_a_graph_nested_as_deep_as_a_file_can_be_is_judged(plain: bytes) -> None:
    branch = helper.make_graph(
        [helper.make_node("Loop", ["", "yes", "nothing"], ["deep"], body=onnx.GraphProto())], "deepest", [], []
    )
    for _ in range(25):
        branch = helper.make_graph(
            [helper.make_node("If", ["yes"], ["deep"], then_branch=branch, else_branch=branch)], "deep", [], []
        )
        branch.node[0].attribute[1].g.CopyFrom(onnx.GraphProto())
    node = helper.make_node("If", ["yes"], ["extra"], then_branch=branch, else_branch=onnx.GraphProto())
    with pytest.raises(NotServable, match="operator Loop"):
        refuse_unbounded(with_nodes(plain, [node], yes=np.array(True)))
