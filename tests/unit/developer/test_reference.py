"""docs/reference says what the code reads and answers, file by file."""

from pathlib import Path

import pytest

from pipelines.developer.reference import REFERENCE, SCHEMAS, TRIED, schema_text, write_reference


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_the_one_of_the_code(name: str) -> None:
    assert (REFERENCE / name).read_text() == schema_text(name), 'run "make reference", and commit what it writes'


def test_no_file_is_there_without_code_behind_it() -> None:
    assert {path.name for path in REFERENCE.iterdir()} == {*SCHEMAS, *TRIED}


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    assert write_reference(tmp_path, SCHEMAS) == list(SCHEMAS)
    name = next(iter(SCHEMAS))
    (tmp_path / name).write_text("{}\n")

    assert write_reference(tmp_path, SCHEMAS) == [name]
    assert (tmp_path / name).read_text() == schema_text(name)
