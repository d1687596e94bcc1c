"""The digest of the code that measures: the same wherever it is installed, and of all that decides what gates find."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.evaluation.gates.code import MEASURED_BY, digest_of_sources, gates_digest
from pipelines.settings.settings import ROOT

# What gates import, and what changes nothing of what they find: names, forms and refusals, and limits, of which the
# policy's own digest is in a report.
BESIDE = {
    "pipelines.disk",
    "pipelines.documents",
    "pipelines.domain.evalset",
    # What plots are drawn from decides nothing.
    "pipelines.domain.figures",
    "pipelines.domain.formats",
    "pipelines.domain.policy",
    "pipelines.domain.promotion",
    "pipelines.domain.records",
    "pipelines.domain.release",
    "pipelines.domain.sections",
    "pipelines.domain.texts",
    "pipelines.errors",
    "pipelines.evaluation.reports.figures",
    "pipelines.ports",
}
# What carries measuring out: it brings files and addresses, and judges nothing.
CARRIES_OUT = (
    "pipelines.evaluation.ending",
    "pipelines.evaluation.subject",
    "pipelines.governance",
    "pipelines.live.request_files",
    "pipelines.packaging.confined",
    "pipelines.packaging.file_digest",
    "pipelines.packaging.mlmodel",
    "pipelines.releases",
)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    (tmp_path / "gates" / "quality").mkdir(parents=True)
    (tmp_path / "gates" / "quality" / "accuracy.py").write_bytes(b"minimum = 1\nrows = 2\n")
    (tmp_path / "gates" / "gate.py").write_bytes(b"pass\n")
    (tmp_path / "metrics.py").write_bytes(b"auc = 1\n")
    return tmp_path


def digest(sources: Path) -> str:
    return digest_of_sources(sources, ("gates", "metrics.py"))


def test_neither_line_ends_nor_compiled_files_nor_others_nor_the_order_count(sources: Path) -> None:
    before = digest(sources)
    (sources / "gates" / "quality" / "accuracy.py").write_bytes(b"minimum = 1\r\nrows = 2\r\n")
    (sources / "gates" / "__pycache__").mkdir()
    (sources / "gates" / "__pycache__" / "gate.cpython-311.pyc").write_bytes(b"\0")
    (sources / "gates" / "notes.md").write_text("not code")
    (sources / "other.py").write_text("not named")

    assert digest(sources) == before == digest_of_sources(sources, ("metrics.py", "gates"))


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("gates/quality/accuracy.py", b"minimum = 0\nrows = 2\n"),
        ("gates/quality/more.py", b""),
        ("metrics.py", b"auc = 1\n\n"),
    ],
)
def test_a_changed_or_added_source_counts(sources: Path, path: str, content: bytes) -> None:
    before = digest(sources)
    (sources / path).write_bytes(content)

    assert digest(sources) != before


def test_a_moved_source_counts_and_a_missing_one_is_an_error(sources: Path) -> None:
    before = digest(sources)
    (sources / "gates" / "gate.py").rename(sources / "gates" / "quality" / "gate.py")
    assert digest(sources) != before
    (sources / "metrics.py").unlink()
    with pytest.raises(FileNotFoundError):
        digest(sources)


def test_all_that_decides_what_gates_find_is_digested() -> None:
    root = ROOT / "pipelines"
    digested = {path for name in MEASURED_BY for path in _python(root / name)}
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in digested}

    imported = {module for path in digested for module in _imported(path)}
    left = {each for each in imported - modules - BESIDE if not each.startswith(CARRIES_OUT)}

    assert left == set()
    assert gates_digest().startswith("sha256:")


def _python(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def _imported(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipelines"):
            for name in node.names:
                module = f"{node.module}.{name.name}"
                yield module if (ROOT / module.replace(".", "/")).with_suffix(".py").exists() else str(node.module)
