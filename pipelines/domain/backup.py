"""What a backup says of itself: its files with their digests, and the versions of every format that they are in.

A name that could leave the folder it is restored to, or a format newer than the code, is refused before any file is
read.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipelines.domain.formats import refuse_newer
from pipelines.errors import BackupDamaged, UsageError

# Since the second, files of a home whose names are none in a backup are kept by numbers.
FORMAT = 2
# The first file of every backup, which names the others.
MANIFEST = "manifest.json"
# Some 350,000 artifacts of runs (190 bytes each), or 540,000 objects (123). Reading as many takes 0.6 GB of memory,
# which must not be the choice of who forges a backup.
MANIFEST_LIMIT_BYTES = 64 * 1024 * 1024

_NAME_LIMIT = 1024
# Without what Python makes of bytes that are no UTF-8.
_PART = re.compile(r"[^/\\\x00-\x1f\x7f\ud800-\udfff]{1,255}")
_SHA256 = "^[0-9a-f]{64}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class BackedUpFile(_Part):
    """One file: where it belongs, its size, and the SHA-256 of its content."""

    name: str = Field(description="Its path in the backup, with `/` between the parts.")
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=_SHA256)


class Manifest(_Part):
    """All that a backup holds, in the order of its files.

    `formats` has the version of each format: numbers, or for a program's own format its version as text.
    """

    format: int = Field(ge=1, description="The version of the backup's own form.")
    created_at: str
    slipway: str = Field(description="The version of the Slipway that wrote it.")
    target: str
    model: str
    installation_id: str | None
    formats: dict[str, Annotated[int | str, Field(union_mode="left_to_right")]]
    files: tuple[BackedUpFile, ...] = Field(strict=False)

    @model_validator(mode="after")
    def _check_names(self) -> "Manifest":
        names = [file.name for file in self.files]
        for name in names:
            if not is_name(name):
                raise ValueError(f"{name[:80]!r} is no name of a file in a backup")
        if len(set(names)) < len(names):
            raise ValueError("a file is named twice")
        folders = {name[:place] for name in names for place in _slashes(name)}
        if folders & set(names):
            raise ValueError("a file is the folder of another")
        return self

    @property
    def size_bytes(self) -> int:
        """How much room its files take."""
        return sum(file.bytes for file in self.files)

    def content(self) -> bytes:
        """Return the form that `read` takes; raise UsageError where it would be larger than is read back."""
        content = self.model_dump_json().encode()
        if len(content) > MANIFEST_LIMIT_BYTES:
            places = Counter("/".join(file.name.split("/")[:2]) for file in self.files).most_common(1)
            most = f", {places[0][1]:,} of them in {places[0][0]}" if places else ""
            raise UsageError(
                f"{len(self.files):,} files are too many for a backup{most}: their list would take {len(content):,} "
                f"bytes, and {MANIFEST_LIMIT_BYTES:,} are read back",
                next='remove what is not needed any more, such as deleted runs by "mlflow gc"',
            )
        return content

    def origin(self) -> dict[str, str | None]:
        """Return what the records of a restored installation tell of where they come from."""
        return {"installation": self.installation_id, "made_at": self.created_at}

    @classmethod
    def read(cls, content: bytes) -> "Manifest":
        """Read a manifest; raise UsageError for a form that this code does not know, BackupDamaged for anything else.

        The form's own version is looked at first: a newer one may have other keys.
        """
        try:
            form = _Form.model_validate_json(content).format
            refuse_newer("the form of the backup", found=form, known=FORMAT, next=_RESTORE)
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise BackupDamaged(f"the manifest of the backup is none: {place}: {first['msg']}", next=_OTHER) from error

    def refuse_newer(self, known: Mapping[str, int | str]) -> None:
        """Raise UsageError, with both versions, for the first format that is newer than what this code reads."""
        for name, found in self.formats.items():
            refuse_newer(f"the format {name!r}", found=found, known=known.get(name, "none"), next=_RESTORE)


class _Form(BaseModel):
    format: int


_OTHER = "take another copy of the backup"
_RESTORE = "restore it with the Slipway that wrote it, or a newer one"


def is_name(name: str) -> bool:
    """Whether a name is a plain relative path of whole letters, as every file of a backup has."""
    parts = name.split("/")
    return len(name) <= _NAME_LIMIT and all(part not in (".", "..") and _PART.fullmatch(part) for part in parts)


def describe_backup() -> dict[str, Any]:
    """Return the JSON Schema of the manifest."""
    return Manifest.model_json_schema()


def _slashes(name: str) -> list[int]:
    return [place for place, letter in enumerate(name) if letter == "/"]
