"""What every supervisor of checkpoints must do, asked of the fake, of the file and of a real object store."""

import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.adapters.storage.checkpoints_file import FileCheckpoints
from pipelines.adapters.storage.checkpoints_s3 import S3Checkpoints
from pipelines.domain.audit import Checkpoint
from pipelines.errors import DatabaseUnavailable, Undecided
from pipelines.ports import Checkpoints
from tests.support.world.fakes import FakeCheckpoints

ROOT = Path(__file__).resolve().parent.parent.parent
FIRST, SECOND = Checkpoint(1, "a" * 64), Checkpoint(2, "b" * 64)
TORN = ['{"seq": 2, "ha', '{"seq": 2, "hash": "' + "b" * 64 + '"}', "\0" * 100, "\udcff"]


@pytest.fixture(params=["fake", "file", "s3"])
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoints:
    if request.param == "s3":
        store = request.getfixturevalue("store")
        return S3Checkpoints(store.access["audit"], store.buckets.heads)
    return FakeCheckpoints() if request.param == "fake" else FileCheckpoints(tmp_path / "checkpoints.jsonl")


def test_there_is_none_before_the_first_export(checkpoints: Checkpoints) -> None:
    assert checkpoints.checkpoints() == []


def test_every_head_is_kept_once_and_shown_by_number(checkpoints: Checkpoints) -> None:
    for checkpoint in [SECOND, FIRST, SECOND]:
        checkpoints.export(checkpoint)

    assert checkpoints.checkpoints() == [FIRST, SECOND]


def test_what_was_returned_is_no_way_in(checkpoints: Checkpoints) -> None:
    checkpoints.export(FIRST)
    checkpoints.checkpoints().clear()

    assert len(checkpoints.checkpoints()) == 1


def test_writers_beside_each_other_lose_no_head(checkpoints: Checkpoints) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seq: checkpoints.export(Checkpoint(seq, f"{seq:064x}")), range(1, 51)))

    assert [checkpoint.seq for checkpoint in checkpoints.checkpoints()] == list(range(1, 51))


def test_the_file_is_the_owners_alone_and_read_again_after_a_start(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.jsonl"
    FileCheckpoints(path).export(FIRST)
    FileCheckpoints(path).export(SECOND)

    assert path.stat().st_mode & 0o077 == 0
    assert FileCheckpoints(path).checkpoints() == [FIRST, SECOND]


@pytest.mark.parametrize("line", ['{"seq": 2, "ha', "", "[]", "null", '{"seq": 2}', "\udcff"])
def test_a_line_that_is_no_head_stops_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "checkpoints.jsonl"
    checkpoints = FileCheckpoints(path)
    checkpoints.export(FIRST)
    append(path, f"{line}\n")

    with pytest.raises(Undecided, match="line 2"):
        checkpoints.checkpoints()


@pytest.mark.parametrize("torn", TORN)
def test_a_last_line_that_was_cut_off_is_not_read_and_gives_way_to_the_next(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "checkpoints.jsonl"
    checkpoints = FileCheckpoints(path)
    checkpoints.export(FIRST)
    append(path, torn)

    assert checkpoints.checkpoints() == [FIRST]
    checkpoints.export(Checkpoint(3, "c" * 64))

    assert checkpoints.checkpoints() == [FIRST, Checkpoint(3, "c" * 64)]
    assert len(path.read_bytes().splitlines()) == 2


def test_a_file_that_holds_a_torn_line_only_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.jsonl"
    append(path, TORN[0])

    assert FileCheckpoints(path).checkpoints() == []
    FileCheckpoints(path).export(FIRST)

    assert FileCheckpoints(path).checkpoints() == [FIRST]


def test_a_head_of_which_the_disk_takes_a_part_only_is_not_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.jsonl"
    checkpoints = FileCheckpoints(path)
    checkpoints.export(FIRST)
    program = """
        import resource
        import sys
        from pathlib import Path
        from pipelines.adapters.storage.checkpoints_file import FileCheckpoints
        from pipelines.domain.audit import Checkpoint

        path = Path(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20,) * 2)
        FileCheckpoints(path).export(Checkpoint(2, "b" * 64))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert DatabaseUnavailable.__name__ in done.stderr
    assert path.read_bytes().endswith(b'{"seq": 2, "hash": "')
    assert checkpoints.checkpoints() == [FIRST]
    checkpoints.export(SECOND)
    assert checkpoints.checkpoints() == [FIRST, SECOND]


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
