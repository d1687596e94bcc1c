"""Names a file by what it holds, in the memory of a part of it: files that strangers made may be large."""

import hashlib
from pathlib import Path


def digest_of_file(path: Path) -> str:
    """Return `sha256:<hex>` of what a file holds."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
