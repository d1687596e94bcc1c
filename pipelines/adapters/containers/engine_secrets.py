"""Secrets in the engine's own store: services get to read them as files, and nobody can read them back.

A name carries a keyed hash of the content, so another value is another secret, which services take over one by one, and
nobody who reads names, as in a plan, can try values.
"""

import hmac
from collections.abc import Collection, Mapping
from typing import Any

from docker.errors import APIError

from pipelines.adapters.swarm.engine import DockerEngine

PREFIX_LABEL = "slipway.prefix"
_NOTE_LABEL = "slipway.note"
_IN_USE = "is in use"
_GONE = 404


class DockerSecrets:
    """The secrets of the installation `prefix`, known by their label."""

    def __init__(self, engine: DockerEngine, prefix: str) -> None:
        self._engine = engine
        self._prefix = prefix

    def put(self, values: Mapping[str, str], *, key: str) -> dict[str, dict[str, str]]:
        """Make the secrets that are missing; return for each of `values` its id and its name in the engine."""
        known = {secret["Spec"]["Name"]: str(secret["ID"]) for secret in self._ours()}
        placed = {}
        for name, value in values.items():
            hashed = hmac.new(key.encode(), value.encode(), "sha256").hexdigest()
            full = f"{self._prefix}-{name}-{hashed[:12]}"
            placed[name] = {"id": known.get(full) or self._create(full, value), "name": full}
        return placed

    def remove_others(self, keep: Collection[str]) -> list[str]:
        """Remove the secrets whose names are not in `keep` and that no service uses; return their names."""
        removed = []
        for secret in self._ours():
            name = secret["Spec"]["Name"]
            if name not in keep and self._remove(secret["ID"]):
                removed.append(name)
        return removed

    def remove(self, name: str) -> None:
        """Remove one, if it is there."""
        for secret in self._ours():
            if secret["Spec"]["Name"] == name:
                self._remove(secret["ID"])

    def note(self, name: str, text: str) -> None:
        """Leave a text that is no secret, which goes with the secrets when they are removed."""
        if self.noted(name) is None:
            self._create(name, "-", **{_NOTE_LABEL: text})

    def noted(self, name: str) -> str | None:
        """Return the text that was left under a name."""
        found = [secret["Spec"]["Labels"].get(_NOTE_LABEL) for secret in self._ours() if secret["Spec"]["Name"] == name]
        return found[0] if found else None

    def _create(self, name: str, value: str, **labels: str) -> str:
        with self._engine.api() as api:
            described = {PREFIX_LABEL: self._prefix, **labels}
            made: dict[str, str] = api.create_secret(name, value.encode(), labels=described)
            return made["ID"]

    def _remove(self, id: str) -> bool:
        with self._engine.api() as api:
            try:
                api.remove_secret(id)
            except APIError as error:
                if _IN_USE not in str(error) and error.status_code != _GONE:
                    raise
                return False
        return True

    def _ours(self) -> list[dict[str, Any]]:
        with self._engine.api() as api:
            found: list[dict[str, Any]] = api.secrets(filters={"label": f"{PREFIX_LABEL}={self._prefix}"})
        return found
