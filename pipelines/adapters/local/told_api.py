"""Remembers what the API of a home was told at its start: one that knows another id or other tokens refuses all.

It outlives the record of the installation, so that an installation whose record was lost keeps its id.
"""

import hashlib
from typing import Any

from pipelines.adapters.local.private_json import read_private, write_private
from pipelines.settings.installation import installation_id
from pipelines.settings.settings import Settings


class ToldApi:
    """The id and the tokens that the home's API read when it was started last; of the tokens a digest is kept."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file = settings.home / "run" / "api-told.json"

    def known_id(self) -> str | None:
        """Return the id of the installation, None where no API of this Slipway was started."""
        id = read_private(self._file).get("installation")
        return id if isinstance(id, str) else None

    def is_told(self) -> bool:
        """Whether that is what the home has now; what an earlier Slipway told its API is not known."""
        return read_private(self._file) == self._now()

    def keep_told(self) -> None:
        """Remember what the API is told that is started next."""
        write_private(self._file, self._now())

    def _now(self) -> dict[str, Any]:
        tokens = self._settings.tokens_file
        digest = hashlib.sha256(tokens.read_bytes()).hexdigest() if tokens.exists() else None
        return {"installation": installation_id(self._settings), "tokens_sha256": digest}
