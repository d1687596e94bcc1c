"""What every keeper of audit heads must do, asked of the fake and of the file."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.adapters.audit_file import FileAuditHeads
from pipelines.domain.audit import Head
from pipelines.errors import Undecided
from pipelines.ports import AuditHeads
from tests.fakes import FakeAuditHeads


@pytest.fixture(params=["fake", "file"])
def heads(request: pytest.FixtureRequest, tmp_path: Path) -> AuditHeads:
    return FakeAuditHeads() if request.param == "fake" else FileAuditHeads(tmp_path / "heads.jsonl")


def test_there_is_none_before_the_first_export(heads: AuditHeads) -> None:
    assert heads.heads() == []


def test_every_head_is_kept_in_the_order_of_export(heads: AuditHeads) -> None:
    exported = [Head(2, "b" * 64), Head(1, "a" * 64), Head(2, "b" * 64)]
    for head in exported:
        heads.export(head)

    assert heads.heads() == exported


def test_what_was_returned_is_no_way_in(heads: AuditHeads) -> None:
    heads.export(Head(1, "a" * 64))
    heads.heads().clear()

    assert len(heads.heads()) == 1


def test_writers_beside_each_other_lose_no_head(heads: AuditHeads) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seq: heads.export(Head(seq, f"{seq:064x}")), range(1, 51)))

    assert sorted(head.seq for head in heads.heads()) == list(range(1, 51))


def test_the_file_is_the_owners_alone_and_read_again_after_a_start(tmp_path: Path) -> None:
    path = tmp_path / "heads.jsonl"
    FileAuditHeads(path).export(Head(1, "a" * 64))
    FileAuditHeads(path).export(Head(2, "b" * 64))

    assert path.stat().st_mode & 0o077 == 0
    assert FileAuditHeads(path).heads() == [Head(1, "a" * 64), Head(2, "b" * 64)]


@pytest.mark.parametrize("line", ['{"seq": 2, "ha', "", "[]", "null", '{"seq": 2}', "\udcff"])
def test_a_line_that_is_no_head_stops_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "heads.jsonl"
    heads = FileAuditHeads(path)
    heads.export(Head(1, "a" * 64))
    with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{line}\n")

    with pytest.raises(Undecided, match="line 2"):
        heads.heads()
