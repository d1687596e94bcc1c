"""The artifact store that MLflow's server proxies: nothing is read from, or written to, any other place.

Whoever may log a run chooses where its files are said to lie. A transfer ends at its bounds while it runs, whatever a
file holds.
"""

import json
import re
import ssl
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx

from pipelines.adapters.exchange import streamed
from pipelines.errors import NotServable

# Without a host, a part that steps up, or anything that has a meaning in a URL.
_OWN = re.compile(r"mlflow-artifacts:((?:/(?!\.{1,2}(?:/|$))[^/\\%?#\x00-\x1f\x7f]+)+)/?")
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_API = "/api/2.0/mlflow-artifacts/artifacts"
_LISTING_BYTES = 1024 * 1024
_MIB = 1024 * 1024


@dataclass(frozen=True)
class TransferBounds:
    """What one download may bring: so many files, bytes in all, and seconds.

    The largest model that is served, of 256 MiB, has 64 MiB for what lies beside it; the /tmp of an installation's
    MLflow holds two such downloads.
    """

    files: int = 64
    total_bytes: int = 320 * _MIB
    seconds: float = 300.0


def own_place(location: str, what: str) -> str:
    """Return the path of a location within the registry's own store; raise NotServable, naming any other one."""
    found = _OWN.fullmatch(location)
    if found is None:
        raise NotServable(
            f"{what} lies at {location[:80]!r}, outside of the registry's own store",
            next="log it in an experiment that was created without an artifact location, and register it again",
        )
    return found[1]


class ArtifactStore:
    """The store behind the tracking server at `uri`; raises httpx.HTTPError when that does not answer."""

    def __init__(
        self,
        uri: str,
        *,
        login: tuple[str, str] | None,
        timeout_s: float,
        bounds: TransferBounds | None = None,
        trust: ssl.SSLContext | bool = True,
    ) -> None:
        self._client = httpx.Client(
            base_url=uri,
            auth=login,
            timeout=timeout_s,
            trust_env=False,
            verify=trust,
            headers={"Accept-Encoding": "identity"},
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._bounds = bounds or TransferBounds()

    def names(self, place: str) -> set[str]:
        """Return the names of the files directly in a place; those that are no plain file names are left out."""
        content = b"".join(self._read(_API, _Budget(place, _LISTING_BYTES, self._bounds.seconds), path=place[1:]))
        listed = [str(each["path"]) for each in json.loads(content).get("files", []) if not each.get("is_dir")]
        return {name for name in listed if _FILE_NAME.fullmatch(name)}

    def fetch(self, place: str, names: Iterable[str], into: Path) -> list[Path]:
        """Download files of a place into a directory; raise NotServable as soon as they are more than the bounds."""
        wanted = sorted(names)
        if len(wanted) > self._bounds.files:
            raise NotServable(
                f"{place} holds {len(wanted)} files, more than {self._bounds.files}", next="log fewer files beside it"
            )
        budget = _Budget(place, self._bounds.total_bytes, self._bounds.seconds)
        into.mkdir(parents=True, exist_ok=True)
        return [self._fetch_one(f"{place}/{name}", into / name, budget) for name in wanted]

    def put(self, place: str, content: bytes) -> None:
        """Write one file, in place of what is there."""
        url = _API + quote(place)
        with streamed(self._client, "PUT", url, limit_s=self._bounds.seconds, content=content) as answer:
            # What it says is not needed, so none of it is read.
            answer.raise_for_status()

    def _fetch_one(self, place: str, target: Path, budget: "_Budget") -> Path:
        try:
            with target.open("wb") as file:
                for part in self._read(_API + quote(place), budget):
                    file.write(part)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return target

    def _read(self, url: str, budget: "_Budget", **query: str) -> Iterator[bytes]:
        """Yield what is sent as it comes: never unpacked, and never awaited in larger parts."""
        try:
            with streamed(self._client, "GET", url, limit_s=budget.left_s, params=query) as answer:
                answer.raise_for_status()
                for part in answer.iter_raw():
                    budget.take(len(part))
                    yield part
        except httpx.TimeoutException as late:
            if budget.left_s:
                raise
            raise budget.too_late() from late


class _Budget:
    """What a transfer may still bring."""

    def __init__(self, place: str, total_bytes: int, seconds: float) -> None:
        self._place, self._total_bytes, self._seconds = place, total_bytes, seconds
        self._left = total_bytes
        self._deadline = time.monotonic() + seconds

    def take(self, count: int) -> None:
        """Count bytes that came; raise NotServable when they are more than allowed."""
        self._left -= count
        if self._left < 0:
            raise NotServable(
                f"the files at {self._place} have more than {self._total_bytes:,} bytes",
                next="register a smaller model",
            )

    @property
    def left_s(self) -> float:
        """The seconds that are left, 0 when it is too late."""
        return max(0.0, self._deadline - time.monotonic())

    def too_late(self) -> NotServable:
        """Return the refusal of what did not arrive in time."""
        return NotServable(
            f"the files at {self._place} did not arrive within {self._seconds:g} s",
            next="evaluate it again when the registry is less busy, or register a smaller model",
        )
