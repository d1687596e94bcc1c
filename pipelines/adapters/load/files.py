"""What a load run is given and what it leaves, as the archives that the container engine takes and gives.

Raw values count only as long as they are the bytes that the run hashed into its result.
"""

import io
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pydantic import BaseModel, Field, ValidationError

from pipelines.documents import DocumentError, parse_json
from pipelines.domain.texts import one_line
from pipelines.domain.verdict import Verdict
from pipelines.errors import Undecided
from pipelines.packaging.file_digest import digest_of_file
from pipelines.ports import LoadRun

PLAN, ROWS, RESULT, PAGE = "plan.json", "rows.json", "result.json", "report.html"
# Of every image of ours; see infra/images.
USER = 10001
# A request takes 31 bytes: this is sixteen million of them.
LIMIT_BYTES = 512 * 1024 * 1024
# The last replies of a phase are awaited for the timeout and this.
_LAST_S = 1.0
_LOOKS = 2
_REPEATS = 2
_AGAIN = "run it again"
# A result takes some kilobytes.
_RESULT_BYTES = 16 << 20


class _Check(BaseModel):
    name: str = Field(max_length=100)
    about: str
    judged: bool
    verdict: Verdict
    message: str
    observed: float | None
    interval: tuple[float | None, float | None] | None
    limit: float | None


class _Raw(BaseModel):
    file: str
    sha256: str


class _Result(BaseModel):
    """What others read of a result; the format is that of docs/reference/load-result.schema.json."""

    verdict: Verdict
    via: str | None = None
    checks: tuple[_Check, ...] = Field((), max_length=1000)
    raw: tuple[_Raw, ...] = ()


def planned_s(plan: dict[str, Any]) -> float:
    """Return how long the phases of a plan take at most: two looks, and in each all blocks of a comparison.

    As many may be measured again after a busy moment of the machine. At most also means of a service that lets its
    last requests time out, which each turn of a block waits for.
    """
    last_s: float = plan["timeout_s"] + _LAST_S
    look_s: float = plan["warmup_s"] + plan["duration_s"] + last_s
    comparison = plan.get("comparison")
    if comparison:
        look_s += 2 * comparison["blocks"] * (comparison["warmup_s"] + comparison["block_s"] + last_s)
    return (_LOOKS + _REPEATS) * look_s


def pack(plan: dict[str, Any], rows: list[dict[str, Any]], place: PurePosixPath) -> bytes:
    """Return the archive of the plan and its rows, to be unpacked at `place` of the container."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in ((PLAN, {**plan, "rows_file": str(place / ROWS)}), (ROWS, rows)):
            text = json.dumps(content).encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(text), 0o444, USER, USER
            archive.addfile(entry, io.BytesIO(text))
    return packed.getvalue()


def unpack(parts: Iterable[bytes], into: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
    """Write the files of an archive that arrives in parts to the directory `into`, by their last names only.

    Links and special files are left out. Raises Undecided for an archive that is too large or cut off.
    """
    try:
        into.mkdir(parents=True, exist_ok=True)
        # Not in /tmp, which in a container is memory.
        with tempfile.TemporaryFile(dir=into) as whole:
            for part in parts:
                whole.write(part)
                if whole.tell() > limit_bytes:
                    raise Undecided(
                        f"the load run left more than {limit_bytes:,} bytes", next="lower its rate or duration"
                    )
            whole.seek(0)
            _extract(whole, into)
    except (tarfile.TarError, EOFError) as error:
        raise Undecided(f"what the load run left arrived damaged: {error}", next=_AGAIN) from error
    except OSError as error:
        raise Undecided(
            f"what the load run left can't be kept: {error}", next="see that there is room, then try again"
        ) from error


def _extract(whole: IO[bytes], into: Path) -> None:
    with tarfile.open(fileobj=whole, mode="r:") as archive:
        for entry in archive:
            content = archive.extractfile(entry) if entry.isreg() else None
            if content:
                with (into / PurePosixPath(entry.name).name).open("wb") as file:
                    shutil.copyfileobj(content, file)


def read_run(directory: Path) -> LoadRun:
    """Return the run whose files lie in `directory`; raise Undecided unless its raw values are those it judged."""
    if not (directory / RESULT).exists():
        raise Undecided("the load run left no result", next=_AGAIN)
    result = read_result(directory / RESULT)
    for raw in result.get("raw", []):
        file = directory / PurePosixPath(raw["file"]).name
        if not file.is_file():
            raise Undecided(f"{file.name} of the load run is missing", next=_AGAIN)
        if (found := digest_of_file(file)) != raw["sha256"]:
            raise Undecided(f"{file.name}: digest mismatch, expected {raw['sha256']}, got {found}", next=_AGAIN)
    page = directory / PAGE
    return LoadRun(result, page.read_bytes() if page.exists() else b"")


def read_result(path: Path) -> dict[str, Any]:
    """Return the result that a load run left; raise Undecided for what is none."""
    try:
        with path.open("rb") as file:
            result: dict[str, Any] = parse_json(file.read(_RESULT_BYTES + 1), most_bytes=_RESULT_BYTES)
        _Result.model_validate(result)
    except (OSError, DocumentError, ValidationError) as error:
        raise Undecided(f"the load run left what is no result: {one_line(str(error), 300)}", next=_AGAIN) from error
    return result
