"""Labels in a file: CSV becomes what the model answers, and a file that is no list of labels is refused."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UsageError
from pipelines.operator.feedback_file import read_labels

TEXTS = {"task": "binary", "classes": ["No", "Yes"]}


def read(tmp_path: Path, content: str | bytes, live: dict[str, Any]) -> list[dict[str, Any]]:
    path = tmp_path / "labels"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_labels(path, live)


def test_csv_and_json_say_the_same(tmp_path: Path) -> None:
    expected = [{"request_id": "r1", "row": 0, "label": "Yes"}, {"request_id": "many", "row": 3, "label": "No"}]

    assert read(tmp_path, "\ufeffrequest_id,label,row\r\nr1,Yes,\r\nmany,No,3\r\n", TEXTS) == expected
    told = '[{"request_id": "r1", "row": 0, "label": "Yes"}, {"request_id": "many", "row": 3, "label": "No"}]'
    assert read(tmp_path, told, TEXTS) == expected


@pytest.mark.parametrize(
    ("live", "text", "label"),
    [
        ({"task": "binary", "classes": [0, 1]}, "1", 1),
        ({"task": "binary", "classes": [False, True]}, "true", True),
        ({"task": "multiclass", "classes": [1.5, 2.5]}, "2.5", 2.5),
        ({"task": "regression", "classes": []}, "3", 3.0),
        ({"task": "binary", "classes": [0, 1]}, "maybe", "maybe"),
        ({"task": None, "classes": None}, "Yes", "Yes"),
    ],
)
def test_text_becomes_the_class_that_it_says(tmp_path: Path, live: dict[str, Any], text: str, label: Any) -> None:
    [found] = read(tmp_path, f"label,request_id\n{text},r1\n", live)

    assert found["label"] == label and type(found["label"]) is type(label)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "columns"),
        ("request_id,label\n", "no label"),
        ("request_id\nr1\n", "columns"),
        ("request_id,label,more\nr1,Yes,1\n", "columns"),
        ("request_id,label,label\nr1,Yes,No\n", "columns"),
        ("request_id,label\nr1\n", "line 2"),
        ("request_id,label\nr1,Yes,0\n", "line 2"),
        ("request_id,label,row\nr1,Yes,-1\n", "no number of a row"),
        ('request_id,label\n"r1,Yes\n', "no list of labels"),
        (b"\xff\xfe", "no list of labels"),
        ("[1]", "entry 0"),
        ('[{"request_id": "r1"}]', "entry 0"),
        ("[", "no list of labels"),
    ],
)
def test_what_is_no_list_of_labels_is_refused(tmp_path: Path, content: str | bytes, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read(tmp_path, content, TEXTS)


def test_a_number_that_is_none_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no number"):
        read(tmp_path, "request_id,label\nr1,much\n", {"task": "regression", "classes": []})
    with pytest.raises(UsageError, match="can't be read"):
        read_labels(tmp_path / "none", TEXTS)
