"""Makes an evaluation set of a file of one's own: read as `prepare` reads a source, and every row of it evaluates."""

from pathlib import Path

from pipelines.errors import UsageError
from pipelines.packaging.snapshot import write_snapshot
from pipelines.training.model_file import ModelFile
from pipelines.training.places import identities
from pipelines.training.prepare import describe
from pipelines.training.reading.columns import typed_frame
from pipelines.training.reading.source import read_source, usable_rows


def write_own_set(project: Path, file: Path, into: Path) -> str:
    """Write the rows of `file`, which is written as the source of the project's model.yaml is; return the digest.

    Raises UsageError with every value that can't be meant, by its column and row, as `prepare` does.
    """
    if not file.is_file():
        raise UsageError(f"{file} is no file", next="FILE=rows of your own, as CSV or Parquet")
    model = ModelFile.load(project / "model.yaml")
    declared = model.source.model_copy(update={"path": str(file), "sha256": None})
    table = usable_rows(model, read_source(declared, Path()))
    frame = typed_frame(model, table, trains=False)
    return write_snapshot(into, frame, describe(model, frame), identities(model, table))
