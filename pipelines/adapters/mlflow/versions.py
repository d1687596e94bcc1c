"""Reads registered versions over MLflow's REST interface, for a process that must not import MLflow."""

from typing import Any

import httpx

from pipelines.errors import RegistryUnavailable, UnknownVersion

_API = "/api/2.0/mlflow"
# The most that a registry gives at once.
_PAGE = "1000"


class MlflowVersions:
    """Fills ports.VersionList against a tracking server; reads only, as the user and password of `login`."""

    def __init__(self, url: str, timeout_s: float = 5.0, login: tuple[str, str] | None = None) -> None:
        self._client = httpx.Client(base_url=url, timeout=timeout_s, trust_env=False, auth=login)

    def aliases(self, model: str) -> dict[str, str]:
        """Return alias -> version; empty for a model that does not exist yet."""
        response = self._send("/registered-models/get", {"name": model})
        if response.status_code == httpx.codes.NOT_FOUND:
            return {}
        found = _checked(response)["registered_model"].get("aliases", [])
        return {entry["alias"]: entry["version"] for entry in found}

    def versions(self, model: str) -> list[dict[str, Any]]:
        """Return number, run, tags and aliases of each version, newest first."""
        found = self._found(model)
        aliases = self.aliases(model) if found else {}
        rows = [
            {
                "version": version["version"],
                "run_id": version.get("run_id"),
                "tags": {tag["key"]: tag["value"] for tag in version.get("tags", [])},
                "aliases": sorted(alias for alias, at in aliases.items() if at == version["version"]),
            }
            for version in found
        ]
        return sorted(rows, key=lambda row: -int(row["version"]))

    def _found(self, model: str) -> list[dict[str, Any]]:
        """Return what the registry says of each version, page by page."""
        found: list[dict[str, Any]] = []
        query = {"filter": f"name='{model}'", "max_results": _PAGE}
        while True:
            page = _checked(self._send("/model-versions/search", query))
            found += page.get("model_versions", [])
            token = page.get("next_page_token")
            # Whatever a server says, a page without versions is the last.
            if not token or not page.get("model_versions"):
                return found
            query["page_token"] = token

    def resolve(self, model: str, version: str | None) -> str:
        """Return `version` if it is registered, or the newest one for None; raise UnknownVersion."""
        known = [row["version"] for row in self.versions(model)]
        if version is None and known:
            return str(known[0])
        if version is None:
            raise UnknownVersion(f"{model} has no version yet", next='register one: "make candidate"')
        if version not in known:
            newest = f"the newest is {known[0]}" if known else "none is registered yet"
            raise UnknownVersion(f"{model} has no version {version}; {newest}", next='see "slipway status"')
        return version

    def _send(self, path: str, query: dict[str, str]) -> httpx.Response:
        try:
            return self._client.get(_API + path, params=query)
        except httpx.HTTPError as error:
            raise _unavailable(repr(error)) from error


def _checked(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        raise _unavailable(f"it answered {response.status_code}")
    try:
        body: dict[str, Any] = response.json()
    except ValueError as error:
        raise _unavailable(f"what answers there is not MLflow: {response.text[:60]!r}") from error
    return body


def _unavailable(why: str) -> RegistryUnavailable:
    return RegistryUnavailable(f"MLflow does not answer: {why}", next='run "make up", then again; nothing was changed')
