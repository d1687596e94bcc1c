"""The loader that is logged with a version against the service: the same answers, and the same refusals."""

import ast
import io
import json
import sys
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

from app.errors import InvalidFields, RequestError
from app.model.bundle import read_bundle
from app.model.scoring import Scorer, load
from pipelines.adapters.mlflow import loader
from pipelines.adapters.mlflow.loader import Fault, Model, RefusedRows
from pipelines.packaging.reading import read_model
from pipelines.packaging.snapshot import read_snapshot
from tests.support.world import trained
from tests.support.world.typed_bundles import FEATURES, ROW, answer_of, make_typed_bundle

TASKS = ["binary", "multiclass", "regression"]
GOLDEN = {"rows": [{"label": 1.0}], "expected": [answer_of("regression", {"label": 1.0})], "tolerance": 1e-5}
TEXTS = {
    "output": {"target": "y", "classes": ["0", "1", "2"], "positive": None},
    "golden": {
        "rows": [ROW],
        "expected": [answer_of("multiclass", ROW) | {"prediction": str(answer_of("multiclass", ROW)["prediction"])}],
        "tolerance": 1e-5,
    },
}
ROWS = [
    ROW,
    *({**ROW, feature["name"]: None} for feature in FEATURES if feature["nullable"]),
    {"label": 1.0},
    {**ROW, "count": -7, "net weight": 3, "flag": False, "kind": "a", "words": "", "label": 250.5},
]


def opened(root: Path, task: str, **options: Any) -> tuple[Model, Scorer]:
    """Return a model as its consumers and as a replica open it."""
    path, digest = make_typed_bundle(root, task, **options)
    body = json.loads((path / "bundle.json").read_bytes())
    described = {key: body[key] for key in ("task", "features", "output", "onnx")}
    (root / "model").mkdir()
    (root / "model/description.json").write_text(json.dumps(described), encoding="utf-8")
    (root / "model/model.onnx").write_bytes((path / "model.onnx").read_bytes())
    return loader._load_pyfunc(str(root / "model/model.onnx")), load(read_bundle(path, digest=digest))


def served(scorer: Scorer, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    decoded = scorer.schema.decode_batch(msgspec.json.encode({"rows": rows}))
    return [msgspec.to_builtins(answer) for answer in scorer.score_rows(decoded)]


def answered(model: Model, frame: pd.DataFrame) -> list[dict[str, Any]]:
    return json.loads(json.dumps(model.predict(frame).to_dict(orient="records")))  # type: ignore[no-any-return]


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[feature["name"] for feature in FEATURES])


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Scorer]:
    return opened(tmp_path_factory.mktemp("regression"), "regression")


@pytest.mark.parametrize(
    ("task", "options"),
    [*((task, {"packed": packed}) for task in TASKS for packed in (False, True)), ("multiclass", {"changes": TEXTS})],
)
def test_a_frame_is_answered_as_the_service_answers_its_rows(
    tmp_path: Path, task: str, options: dict[str, Any]
) -> None:
    model, scorer = opened(tmp_path, task, **options)
    expected = served(scorer, ROWS)
    frame = frame_of(ROWS).set_index(pd.Index(range(100, 100 + len(ROWS))))

    assert answered(model, frame) == expected
    assert model.predict(frame).index.equals(frame.index)
    for number, row in enumerate(ROWS):
        assert answered(model, frame.iloc[[number]]) == served(scorer, [row])


def test_answers_have_the_dtypes_of_their_labels(tmp_path: Path) -> None:
    found = {}
    for task in TASKS:
        model, _ = opened(tmp_path / task, task)
        found[task] = {name: kind.name for name, kind in model.predict(frame_of(ROWS)).dtypes.items()}
    assert found == {
        "binary": {"prediction": "bool", "probability": "float64"},
        "multiclass": {"prediction": "int64", "probabilities": "object"},
        "regression": {"prediction": "float64"},
    }


def test_labels_that_are_numbers_come_back_as_such(tmp_path: Path) -> None:
    frame = trained.plants().replace({"outcome": {"flowers": "1.5", "green": "0.25"}})
    made = trained.workspace(tmp_path, frame, positive=1.5, labels="number")
    for stage in trained.STAGES:
        stage(made)
    evaluation = read_snapshot(made.evaluation)
    read = read_model(made.onnx_model, evaluation.description.features, evaluation)
    (made.onnx_model.parent / loader.DESCRIPTION).write_text(read.model_dump_json(exclude={"golden"}))
    found = loader._load_pyfunc(str(made.onnx_model)).predict(evaluation.features)
    expected = pd.read_parquet(made.predictions)

    assert found["prediction"].tolist() == expected["label"].astype(float).tolist()
    assert found["probability"].tolist() == pytest.approx(expected["probability"].tolist(), abs=1e-5)


DTYPES: list[tuple[str, Any]] = [
    ("count", "int64"), ("count", "int8"), ("count", "float64"), ("count", "Int64"), ("count", "float32"),
    ("count", "int64[pyarrow]"), ("count", object), ("label", "int64"), ("label", "float32"), ("label", "Float64"),
    ("net weight", "float64"), ("net weight", "double[pyarrow]"), ("flag", "bool"), ("flag", "boolean"),
    ("flag", object), ("flag", "bool[pyarrow]"), ("kind", "category"), ("kind", "str"), ("kind", "string"),
    ("kind", object), ("kind", "string[pyarrow]"), ("words", "category"), ("words", "str"), ("words", object),
    ("day", "datetime64[ns]"), ("day", "datetime64[s]"), ("day", "datetime64[ns, Europe/Berlin]"), ("day", "str"),
    ("day", "category"), ("day", "date32[pyarrow]"), ("day", "timestamp[ns][pyarrow]"), ("at", "datetime64[us, UTC]"),
    ("at", "datetime64[ns]"), ("at", "datetime64[ns, Asia/Tokyo]"), ("at", "str"), ("at", "timestamp[us][pyarrow]"),
]  # fmt: skip


@pytest.mark.parametrize("gaps", [False, True], ids=["full", "gaps"])
@pytest.mark.parametrize(("name", "dtype"), DTYPES, ids=str)
def test_a_column_of_any_dtype_means_the_same(
    regression: tuple[Model, Scorer], name: str, dtype: Any, gaps: bool
) -> None:
    model, scorer = regression
    rows = [{**ROW, "label": 3.0, "net weight": 2.0}] * 3
    frame = frame_of(rows)
    moment = name == "at" and ("datetime64" in str(dtype) or "timestamp" in str(dtype))
    column = pd.to_datetime(frame[name], utc=True) if moment else frame[name]
    if moment and "," not in str(dtype):
        column = column.dt.tz_localize(None)
    if name == "day" and ", " in str(dtype):
        column = pd.to_datetime(column).dt.tz_localize("Europe/Berlin")
    if name == "day" and "date32" in str(dtype):
        column = pd.to_datetime(column).dt.date
    column = column.dt.tz_convert("Asia/Tokyo") if "Asia" in str(dtype) else column.astype(dtype)
    empty = gaps and name != "label" and not str(dtype).startswith(("int8", "bool"))
    if empty and str(dtype) != "int64":
        column = column.where([True, False, True])
        rows = [rows[0], {**rows[1], name: None}, rows[2]]

    assert answered(model, frame.assign(**{name: column})) == served(scorer, rows)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00", "1600-02-29T12:30:00", "9999-12-31T23:59:59"])
@pytest.mark.parametrize("dtype", ["datetime64[s]", "datetime64[us]", "datetime64[us, UTC]"])
def test_a_column_of_times_of_any_year_means_the_same(regression: tuple[Model, Scorer], text: str, dtype: str) -> None:
    model, scorer = regression
    rows = [{**ROW, "label": 3.0, "at": f"{text}Z", "day": text[:10]}] * 2
    at, day = (pd.Series([datetime.fromisoformat(each)] * 2).astype("datetime64[us]") for each in (text, text[:10]))
    at = at.dt.tz_localize("UTC") if "UTC" in dtype else at.astype(dtype)
    assert answered(model, frame_of(rows).assign(at=at, day=day)) == served(scorer, rows)


@pytest.mark.parametrize(
    "value",
    [
        date(2024, 1, 3), datetime(2024, 1, 3), pd.Timestamp("2024-01-03"), np.datetime64("2024-01-03"),
        pd.Timestamp("2024-01-03", tz="Asia/Tokyo"),
    ],
    ids=repr,
)  # fmt: skip
def test_an_object_column_of_dates_holds_days(regression: tuple[Model, Scorer], value: Any) -> None:
    model, scorer = regression
    mixed = frame_of([ROW, ROW]).assign(day=pd.Series([value, "2024-01-03"], dtype=object))
    assert answered(model, mixed) == served(scorer, [ROW, ROW])


@pytest.mark.parametrize(
    "value",
    [
        datetime(2024, 1, 1, 0, 0, 7),
        datetime(2024, 1, 1, 2, 0, 7, tzinfo=timezone(timedelta(hours=2))),
        pd.Timestamp("2024-01-01T09:00:07", tz="Asia/Tokyo"),
        np.datetime64("2024-01-01T00:00:07"),
    ],
    ids=repr,
)
def test_an_object_column_of_times_holds_moments(regression: tuple[Model, Scorer], value: Any) -> None:
    model, scorer = regression
    mixed = frame_of([ROW, ROW]).assign(at=pd.Series([value, "2023-12-31T23:00:07-01:00"], dtype=object))
    assert answered(model, mixed) == served(scorer, [ROW, ROW])


TIMES = [
    "2024-01-01T00:00:07", "2024-01-01 00:00:07", "2024-01-01t00:00:07z", "2024-01-01T00:00:07.25Z",
    "2024-01-01T00:00:07.1234567Z", "2024-01-01T00:00:07+0230", "2024-01-01T00:00:07-01:00",
    "2024-02-29T23:59:59+23:59", "1969-12-31T23:59:59Z",
    "2024-01-01T00:00:07+02", "2024-01-01T00:00", "2024-01-01", "20240101T000007",
    "2024-01-01T00:00:07,5Z", "2024-01-01T24:00:00Z", "2024-01-01T00:00:60Z", "2024-01-01T00:00:07 Z",
    "2024-01-01T00:00:07+24:00", "2024-01-01T00:00:07.Z", "0000-01-01T00:00:00Z", "2024-02-30T00:00:00Z", "yesterday",
    "", "2024-01-01T00:00:07Z\n", "٢٠٢٤-01-01T00:00:07Z",
]  # fmt: skip


@pytest.mark.parametrize("text", TIMES)
def test_a_time_is_read_or_refused_as_the_service_does(regression: tuple[Model, Scorer], text: str) -> None:
    model, scorer = regression
    frame = frame_of([ROW | {"at": text}])
    try:
        expected = served(scorer, [ROW | {"at": text}])
    except InvalidFields:
        with pytest.raises(RefusedRows, match=r"rows\.0\.at: Input should be a valid datetime"):
            model.predict(frame)
    else:
        # The graph adds in float64: what is below a millionth of a second is lost in its sum.
        assert answered(model, frame)[0]["prediction"] == pytest.approx(expected[0]["prediction"], abs=1e-6)


WRONG: list[tuple[str, Any]] = [
    ("count", True), ("count", "2"), ("count", 2.5), ("count", 2**53), ("count", -(2**60)), ("count", 10**400),
    ("net weight", -6), ("net weight", -5.5), ("net weight", "1"), ("net weight", False), ("flag", 1), ("flag", "true"),
    ("flag", 1.0), ("kind", "c"), ("kind", ""), ("kind", 1), ("words", "x" * 21), ("words", 7), ("words", True),
    ("day", "2024-02-30"), ("day", 20240103), ("day", "2024-01-03T00:00:00Z"), ("day", "2024-1-3"), ("at", "yesterday"),
    ("at", 1700000000), ("at", "2024-01-01"), ("label", None), ("label", 1.8e308), ("label", "x"),
]  # fmt: skip


def refusals(scorer: Scorer, rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidFields) as refused:
        scorer.schema.decode_batch(msgspec.json.encode({"rows": rows}))
    return [(fault.field, fault.message) for fault in refused.value.fields]


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "among others"])
@pytest.mark.parametrize(("name", "value"), WRONG, ids=repr)
def test_a_value_that_the_service_refuses_is_refused_by_row_and_column(
    regression: tuple[Model, Scorer], name: str, value: Any, alone: bool
) -> None:
    model, scorer = regression
    rows = [ROW | {name: value}] if alone else [ROW, ROW | {name: value}, ROW]
    # What a frame lacks is a field that is left out: JSON has no NaN, and no number as large.
    sent = [{key: each for key, each in row.items() if each is not None and each != 1.8e308} for row in rows]
    (field, message), *others = refusals(scorer, sent)
    with pytest.raises(RefusedRows) as refused:
        model.predict(frame_of(rows).astype({name: object}))

    assert others == []
    assert refused.value.code == "invalid_field"
    ((row, column, said),) = refused.value.faults
    assert f"rows.{row}.{column}" == field == f"rows.{0 if alone else 1}.{name}"
    if value == 1.8e308:
        assert said == "Input should be a finite number"
    else:
        # Of a date or a time the service's parser knows more words.
        assert message.startswith(said) if name in ("day", "at") else message == said
    assert f"{field}: {said}" in str(refused.value)


def test_categories_are_named_as_the_service_names_them(tmp_path: Path) -> None:
    for number, categories in enumerate((["b"], ["a", "it's"], [f"c{each}" for each in range(12)])):
        features = [each | ({"categories": categories} if each["name"] == "kind" else {}) for each in FEATURES]
        changes = {"features": features, "golden": GOLDEN}
        model, scorer = opened(tmp_path / str(number), "regression", changes=changes)
        with pytest.raises(RefusedRows) as refused:
            model.predict(frame_of([ROW | {"kind": "z"}]))
        assert [("rows.0.kind", refused.value.faults[0].message)] == refusals(scorer, [ROW | {"kind": "z"}])


def test_a_bound_is_told_as_the_service_tells_it(tmp_path: Path) -> None:
    features = [each | ({"minimum": 0, "maximum": 99.5} if each["name"] in ("count", "label") else {})
                for each in FEATURES]  # fmt: skip
    model, scorer = opened(tmp_path, "regression", changes={"features": features, "golden": GOLDEN})
    for row in ({"count": -1, "label": -0.5}, {"count": 100, "label": 99.75}):
        with pytest.raises(RefusedRows) as refused:
            model.predict(frame_of([ROW | row]))
        assert [(f"rows.0.{each.column}", each.message) for each in refused.value.faults] == refusals(
            scorer, [ROW | row]
        )


def test_a_column_that_is_missing_is_refused_in_each_row_unless_it_may_be(regression: tuple[Model, Scorer]) -> None:
    model, scorer = regression
    rows = [{"label": 1.0}, {"label": 2.0}]
    assert answered(model, pd.DataFrame(rows)) == served(scorer, rows)
    with pytest.raises(RefusedRows) as refused:
        model.predict(frame_of([ROW, ROW]).drop(columns="label"))
    assert refused.value.faults == (Fault(0, "label", "Field required"), Fault(1, "label", "Field required"))


def test_of_many_refused_values_the_first_rows_are_named_and_all_are_counted(regression: tuple[Model, Scorer]) -> None:
    model, _ = regression
    frame = frame_of([ROW] * 300).assign(kind="z", count=-0.5)
    with pytest.raises(RefusedRows, match=r"^600 field\(s\) refused: .*; and 595 more$") as refused:
        model.predict(frame)
    assert [each.row for each in refused.value.faults] == [row for row in range(50) for _ in "ab"]


def test_columns_that_are_no_features_are_not_looked_at(tmp_path: Path) -> None:
    model, scorer = opened(tmp_path, "binary")
    assert answered(model, frame_of([ROW]).assign(id="x", outcome=None)) == served(scorer, [ROW])


def test_no_rows_have_no_answers(tmp_path: Path) -> None:
    for task, columns in (("binary", ["prediction", "probability"]), ("regression", ["prediction"])):
        model, _ = opened(tmp_path / task, task)
        found = model.predict(frame_of([ROW]).iloc[:0])
        assert (list(found.columns), len(found)) == (columns, 0)


def test_what_the_model_has_no_answer_to_is_refused_with_the_same_code(regression: tuple[Model, Scorer]) -> None:
    model, scorer = regression
    # Two of them are no float64 any more.
    row = ROW | {"label": 1.7e308, "net weight": 1.7e308}
    with pytest.raises(RequestError) as expected:
        served(scorer, [row])
    with pytest.raises(RefusedRows) as refused:
        model.predict(frame_of([row]))
    assert (refused.value.code, str(refused.value)) == (expected.value.code, str(expected.value))


def test_many_rows_are_answered_in_slices_in_their_order(regression: tuple[Model, Scorer]) -> None:
    model, _ = regression
    count = 2 * 65_536 + 3
    frame = frame_of([ROW]).loc[[0] * count].reset_index(drop=True).assign(label=np.arange(count, dtype=float))
    found = model.predict(frame)["prediction"]
    assert (found - found.iloc[0]).tolist() == list(range(count))


def test_the_loader_leans_on_nothing_that_a_consumer_lacks() -> None:
    tree = ast.parse(Path(loader.__file__).read_text(encoding="utf-8"))
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in found} - set(sys.stdlib_module_names) == {"numpy", "onnxruntime", "pandas"}


def test_a_csv_that_pandas_reads_is_answered(tmp_path: Path) -> None:
    model, scorer = opened(tmp_path, "binary")
    text = frame_of(ROWS).to_csv(index=False)
    # An empty text is a missing one in a CSV file.
    rows = [row | {"words": None} if row.get("words") == "" else row for row in ROWS]
    assert answered(model, pd.read_csv(io.StringIO(text))) == served(scorer, rows)
