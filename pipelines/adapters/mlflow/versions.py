"""Lists registered versions for people, within bounds, and says so where something was left out."""

import re
from typing import Any

from pipelines.adapters.mlflow.aliases import aliases_of
from pipelines.adapters.mlflow.answers import OneVersion, Version, Versions
from pipelines.adapters.mlflow.rest import TrackingServer
from pipelines.errors import NotAllowed, RegistryUnavailable, UnknownVersion

# A listing has so many versions and characters, a version so many tags, and a tag so many characters.
MOST_VERSIONS = 1000
MOST_LISTED_CHARS = 1 << 20
MOST_TAGS = 50
MOST_CHARS = 1000
_PAGE = 200
_PAGE_BYTES = 1 << 20
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_CUT = "..."


class MlflowVersions:
    """Fills ports.VersionList against a tracking server; reads only, as the user and password of `login`."""

    def __init__(self, url: str, timeout_s: float = 5.0, login: tuple[str, str] | None = None) -> None:
        self._server = TrackingServer(url, login=login, timeout_s=timeout_s)

    def aliases(self, model: str) -> dict[str, str]:
        """Return alias -> version; empty for a model that does not exist yet."""
        try:
            return aliases_of(self._server, model)
        except NotAllowed as error:
            raise _not_ours(error) from error

    def versions(self, model: str, before: int | None = None) -> tuple[list[dict[str, Any]], bool]:
        """Return the newest versions older than `before`, newest first, and whether there are more.

        Each has number, run, tags and aliases; it is `cut` where it has more tags, or longer ones, than are shown.
        """
        found, more = self._newest_first(model, before)
        aliases = self.aliases(model) if found else {}
        return [_row(version, aliases) for version in found], more

    def resolve(self, model: str, version: str | None) -> str:
        """Return `version` if it is registered, or the newest one for None; raise UnknownVersion."""
        if version is not None and _NUMBER.fullmatch(version) and self._holds(model, version):
            return version
        newest = self._newest(model)
        if version is not None:
            told = f"the newest is {newest}" if newest else "none is registered yet"
            raise UnknownVersion(f"{model} has no version {version[:40]}; {told}", next='"make versions" lists them')
        if newest is None:
            raise UnknownVersion(f"{model} has no version yet", next='register one: "make candidate"')
        return newest

    def _newest_first(self, model: str, before: int | None) -> tuple[list[Version], bool]:
        found: list[Version] = []
        size, chars = _PAGE, 0
        while len(found) < MOST_VERSIONS and chars < MOST_LISTED_CHARS:
            page = self._page(model, before, size)
            if page is None and size == 1:
                break
            if page is None:
                # Smaller ones come as far as to the version that is too large by itself.
                size = max(1, size // 4)
                continue
            found += page
            chars += sum(len(tag.key) + len(tag.value) for version in page for tag in version.tags)
            if len(page) < size:
                return found, False
            before = int(page[-1].version)
        return found, True

    def _page(self, model: str, before: int | None, size: int) -> tuple[Version, ...] | None:
        """Return so many versions older than `before`, newest first; None where MLflow says too much of them."""
        older = "" if before is None else f" and version_number < {before}"
        query = {"filter": f"name='{model}'{older}", "max_results": str(size), "order_by": "version_number DESC"}
        try:
            found = self._server.get_small(
                "/model-versions/search", Versions, f"versions of {model}", _PAGE_BYTES, **query
            )
        except NotAllowed as error:
            raise _not_ours(error) from error
        return None if found is None else found.model_versions

    def _holds(self, model: str, version: str) -> bool:
        subject, named = f"version {version} of {model}", {"name": model, "version": version}
        try:
            self._server.get_small("/model-versions/get", OneVersion, subject, _PAGE_BYTES, **named)
        except UnknownVersion:
            return False
        except NotAllowed as error:
            raise _not_ours(error) from error
        return True

    def _newest(self, model: str) -> str | None:
        page = self._page(model, None, 1)
        if page is None:
            raise RegistryUnavailable(
                f"MLflow says more than {_PAGE_BYTES:,} bytes of the newest version of {model}",
                next="name the version, or remove tags of the newest one",
            )
        return page[0].version if page else None


def _not_ours(error: NotAllowed) -> RegistryUnavailable:
    # Whoever asked this process may well be allowed to: it is this process that is not.
    return RegistryUnavailable(error.message, next=error.next)


def _row(version: Version, aliases: dict[str, str]) -> dict[str, Any]:
    tags = {tag.key: tag.value for tag in version.tags}
    # Slipway's own come first, so that nobody else's push them out.
    names = sorted(tags, key=lambda key: (not (key == "lifecycle" or key.startswith("slipway.")), key))
    shown = {_short(name): _short(tags[name]) for name in names[:MOST_TAGS]}
    return {
        "version": version.version,
        "run_id": _short(version.run_id) if version.run_id else None,
        "tags": shown,
        "aliases": sorted(alias for alias, at in aliases.items() if at == version.version),
        "cut": shown != tags,
    }


def _short(text: str) -> str:
    return text if len(text) <= MOST_CHARS else text[: MOST_CHARS - len(_CUT)] + _CUT
