"""Files as people have them: read as they are meant, or refused with the line and what to do."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.errors import UsageError
from pipelines.training.model_file import ModelFile, Source
from pipelines.training.reading.columns import guessed_decimal, typed_frame
from pipelines.training.reading.csv_file import read_csv
from pipelines.training.reading.source import read_source
from pipelines.training.reading.table import Table
from tests.support.world import trained

ROWS = "name,age\r\nAnna,3\r\nBo,4\r\n"


def table_of(content: bytes | str, **source: Any) -> Table:
    raw = content.encode() if isinstance(content, str) else content
    return read_csv(raw, Source(path="raw.csv", **source))


def refusal(content: bytes | str, **source: Any) -> UsageError:
    with pytest.raises(UsageError) as refused:
        table_of(content, **source)
    assert refused.value.exit_code == 2
    assert refused.value.next
    return refused.value


def rows_of(table: Table) -> list[tuple[str, ...]]:
    return list(zip(*(column.to_pylist() for column in table.columns.values()), strict=True))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a,b\n1,2\n3,4,\n5,6,\n", "rows with other than the 2 fields of the header: line 3 has 3, line 4 has 3"),
        ("a,b,c\n1,2,3\n4,5\n", "rows with other than the 3 fields of the header: line 3 has 2"),
        ("a,b,c\n1,2,3\n4,5", "line 3 has 2"),
        ("a,b\n\n1,2\n\n\n3\n", "line 6 has 1"),
        ('a,b\n"x\ny\nz",2\n3\n', "line 5 has 1"),
        ('a,b\r\n"x\r\ny",2\r\n3,4,5\r\n', "line 4 has 3"),
        ("a,b\n" + "1,2,3\n" * 12, "line 6 has 3 (12 in all)"),
        ('a,b\n1,2\n3,"4\n5,6\n', "the row that begins in line 3 is not quoted as CSV is"),
        ('a,b\n1,"2"x\n', "the row that begins in line 2 is not quoted as CSV is"),
        ("a,b\n1,2\n3,\x004\n", "line 3 holds a NUL byte (1 in all)"),
        ("a,b\n1,2\na,b\n3,4\n", "the header stands again in line 3"),
        ("a,b,a\n1,2,3\n", "the header in line 1 names 'a' more than once"),
        ("\na,b,\n1,2,3\n", "the header in line 2 has no name for field 3 of 3"),
        ("", "raw.csv holds no header: it is empty"),
        (" \n\n", "raw.csv holds no header: it is empty"),
        ("a,b\n", "raw.csv holds a header and no rows"),
    ],
)
def test_what_is_no_row_of_the_header_is_refused_by_its_line(content: str, told: str) -> None:
    assert told in refusal(content).message


def test_all_that_is_wrong_with_a_file_is_said_at_once() -> None:
    told = refusal('a,a,\n1,2\na,a,\n1,2,"3\n').message
    for part in ("has no name for field 3", "names 'a' more than once", "line 2 has 2", "again in line 3", "line 4 is"):
        assert part in told


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_the_bytes_say_for_certain_is_not_declared(encoding: str) -> None:
    table = table_of("näme,ort\nZoë,Köln\n".encode(encoding))
    assert list(table.columns) == ["näme", "ort"]
    assert rows_of(table) == [("Zoë", "Köln")]
    assert encoding in table.told


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16-le"])
def test_an_encoding_that_is_declared_is_read(encoding: str) -> None:
    table = table_of("name,ort\nZoë,Köln\n".encode(encoding), encoding=encoding)
    assert rows_of(table) == [("Zoë", "Köln")]


def test_a_file_that_is_not_of_its_encoding_is_refused_by_its_line() -> None:
    latin = 'name,ort\n"A\nb",x\nZoë,Köln\n'.encode("latin-1")
    refused = refusal(latin)
    assert "raw.csv is not UTF-8: line 4 holds b'\\xeb'" in refused.message
    assert "encoding: cp1252" in refused.next
    assert "is not declared ascii: line 4" in refusal(latin, encoding="ascii").message
    assert "it is UTF-8" in refusal("name\nZoë\n", encoding="latin-1").message


@pytest.mark.parametrize("encoding", ["klingon", "base64", "rot13", "punycode", "undefined", "a\0b"])
def test_an_encoding_that_is_none_of_texts_is_refused(encoding: str) -> None:
    assert f"no encoding of texts is called {encoding!r}" in refusal(ROWS, encoding=encoding).message


def test_an_encoding_that_says_not_where_it_fails_is_refused_too() -> None:
    assert "raw.csv is not declared idna: " in refusal("xn--99999999999,b\n1,2\n", encoding="idna").message


@pytest.mark.parametrize("begins", [b"PK\x03\x04", b"\x1f\x8b\x08"])
def test_a_spreadsheet_or_an_archive_is_refused_as_one(tmp_path: Path, begins: bytes) -> None:
    (tmp_path / "raw.csv").write_bytes(begins + bytes(range(256)))
    with pytest.raises(UsageError, match="is a spreadsheet or an archive"):
        read_source(Source(path="raw.csv"), tmp_path)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_what_splits_the_rows_evenly(separator: str) -> None:
    table = table_of(
        ROWS.replace(",", separator) + separator.join(["x, y; z", "5\r\n"] if separator == "|" else ["x", "5\r\n"])
    )
    assert list(table.columns) == ["name", "age"]
    assert f"separator {separator!r}" in table.told


def test_a_separator_and_a_quote_that_are_declared_are_taken() -> None:
    table = table_of("a;b\n1,5;'x;y'\n", separator=";", quote="'")
    assert rows_of(table) == [("1,5", "x;y")]
    assert rows_of(table_of("a,b;c\n1,2;3\n", separator=";")) == [("1,2", "3")]


def test_places_are_lines_of_the_file_after_blank_lines_and_quoted_line_ends() -> None:
    table = table_of('a,b\n\n"x\n\ny",1\n\nz,2\n')
    assert (table.unit, list(table.places)) == ("line", [3, 7])


@pytest.mark.parametrize(
    ("texts", "sign"),
    [
        (["1,5", "2"], ","),
        (["-0,25"], ","),
        (["1.5", "2"], "."),
        # Either 1500 or one and a half.
        (["1,500"], "."),
        (["3", "4"], "."),
    ],
)
def test_the_decimal_sign_is_what_numbers_show_for_certain(texts: list[str], sign: str) -> None:
    table = table_of("a;b\n" + "".join(f"{text};x\n" for text in texts))
    assert guessed_decimal(table, ["a"]) == sign


def frame_of(tmp_path: Path, content: str, **source: Any) -> pd.DataFrame:
    (tmp_path / "raw.csv").write_text(content)
    features = {"a": {"type": "number", "blank": -1.0}, "b": {"type": "category"}}
    body = trained.describe("raw.csv", features=features, protected=[], id_columns=[])
    model = ModelFile.read({**body, "source": {"path": "raw.csv", **source}}, tmp_path / "model.yaml")
    return typed_frame(model, read_source(model.source, tmp_path))


LABELS = ["flowers", "green", "flowers", "green"]


def test_a_decimal_comma_is_read_and_a_point_beside_it_is_refused(tmp_path: Path) -> None:
    lines = [f"{number};x;{label}" for number, label in zip(["1,5", "-2", "3,", ",5"], LABELS, strict=True)]
    content = "\n".join(["a;b;outcome", *lines])
    assert list(frame_of(tmp_path, content)["a"]) == [1.5, -2.0, 3.0, 0.5]
    with pytest.raises(UsageError, match=r"'1\.234,5' in line 2 is not a number \(decimal sign ','\)"):
        frame_of(tmp_path, content.replace("1,5", "1.234,5"), decimal=",")


def test_markers_that_are_declared_stand_for_no_value(tmp_path: Path) -> None:
    lines = [
        f"{number},{text},{label}" for number, text, label in zip(["1", "NA", "", "4"], "xyxy", LABELS, strict=True)
    ]
    content = "\n".join(["a,b,outcome", *lines])
    assert list(frame_of(tmp_path, content, missing=["NA"])["a"]) == [1.0, -1.0, -1.0, 4.0]
    with pytest.raises(UsageError, match="column a: 'NA' in line 3 is not a number"):
        frame_of(tmp_path, content)
    with pytest.raises(UsageError, match="column b: 'y' in line 3, 'y' in line 5 is missing"):
        frame_of(tmp_path, content, missing=["NA", "y"])


@pytest.mark.parametrize("text", ["0x10", "1_000", "inf", "nan", "True", "1e", "--1", "٣", "1 2"])
def test_only_decimal_numbers_are_numbers(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"in line 2, .* is not a number"):
        frame_of(tmp_path, "\n".join(["a,b,outcome", *(f"{text},x,{label}" for label in LABELS)]))


def test_a_parquet_file_reads_as_its_values(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "whole": [2**60 + 1, -3],
            "half": np.array([0.1, np.nan], dtype=np.float32),
            "flag": [True, False],
            "when": pd.to_datetime(["2025-01-31 00:00", "2025-02-01 12:30"]),
            "text": ["é, x", None],
            "kind": pd.Categorical(["a", "b"]),
        }
    )
    frame.to_parquet(tmp_path / "raw.parquet")
    table = read_source(Source(path="raw.parquet"), tmp_path)
    assert rows_of(table)[0][:3] == ("1152921504606846977", "0.10000000149011612", "true")
    assert rows_of(table)[0][3].startswith("2025-01-31")
    assert rows_of(table)[1][1:3] + rows_of(table)[1][4:] == ("", "false", "", "b")
    assert (table.unit, list(table.places), list(table.is_missing("text"))) == ("row", [1, 2], [False, True])


def test_what_is_no_parquet_file_of_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw.parquet").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match=r"raw\.parquet is no Parquet file"):
        read_source(Source(path="raw.parquet"), tmp_path)
    assert rows_of(read_source(Source(path="raw.parquet", format="csv"), tmp_path)) == [("1", "2")]
    pd.DataFrame({"a": [[1], [2]], "b": [b"x", b"y"]}).to_parquet(tmp_path / "raw.parquet")
    with pytest.raises(UsageError, match=r"column a is of type list<.*(\n.*)?column b is of type binary"):
        read_source(Source(path="raw.parquet"), tmp_path)


def test_a_value_in_a_message_is_one_short_line(tmp_path: Path) -> None:
    text = io.StringIO()
    rows = [["\x1b[2J\nx" + "y" * 500, "x", label] for label in LABELS]
    pd.DataFrame(rows, columns=["a", "b", "outcome"]).to_csv(text, index=False)
    with pytest.raises(UsageError) as refused:
        frame_of(tmp_path, text.getvalue())
    assert "\x1b" not in refused.value.message and "\n" not in refused.value.message
    assert len(json.dumps(refused.value.message)) < 700
