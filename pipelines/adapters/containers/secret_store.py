"""The secrets of one installation, made once and kept in a file of the home that nobody else can read.

A rotated secret keeps its former values until `settle`, so that who still knows only one of those can be told the new.
"""

import base64
import json
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.disk import write_whole
from pipelines.errors import UsageError
from pipelines.settings.installation import came_up

TOKENS = "tokens"
# The present ones are in a file of their own.
_FORMER_TOKENS = "former-tokens"
# What is rotated under these names, where certificates are made here, is more than one secret each.
CERTIFICATE, AUTHORITY = "tls", "tls-ca"
# With this the engine's names of secrets are made of their values.
NAMES_KEY = "secret-names-key"
# What the operator's own machine uses; no service gets to read it.
_AT_HOME = frozenset(
    {
        *("dvc-objects-password", "dvc-objects-user", "mlflow-trainer", "registry-password", _FORMER_TOKENS, NAMES_KEY),
        *("tls-ca", "tls-ca-key", "tls-certificate", "tls-key"),
    }
)

_RESTORE = 'restore it from a backup; without it only "make destroy CONFIRM=yes" helps'


def _password() -> str:
    """Return 240 random bits in 40 characters, the most that MinIO takes."""
    return secrets.token_urlsafe(30)


def _fernet_key() -> str:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _user(name: str) -> Callable[[], str]:
    # Nobody can guess it: some of MinIO's known faults need no more than a user's name.
    return lambda: f"{name}-{secrets.token_hex(6)}"


_ROTATED: dict[str, Callable[[], str]] = {
    "audit-objects-password": _password,
    "dvc-objects-password": _password,
    "minio-root-password": _password,
    "mlflow-admin": _password,
    "mlflow-database": _password,
    "mlflow-objects-password": _password,
    "mlflow-promoter": _password,
    "mlflow-reader": _password,
    "mlflow-session-key": _password,
    "mlflow-trainer": _password,
    "postgres": _password,
    "registry-password": _password,
    "slipway-database": _password,
    "slipway-owner": _password,
    "workflows-database": _password,
}
_FIXED: dict[str, tuple[Callable[[], str], str]] = {
    "audit-objects-user": (_user("audit"), "it is a user's name: rotate audit-objects-password"),
    "dvc-objects-user": (_user("dvc"), "it is a user's name: rotate dvc-objects-password"),
    "minio-root-user": (_user("root"), "it is a user's name: rotate minio-root-password"),
    "mlflow-objects-user": (_user("mlflow"), "it is a user's name: rotate mlflow-objects-password"),
    NAMES_KEY: (_password, "it tells nothing but the names of the others"),
    "mlflow-webhook-key": (_fernet_key, "MLflow could read none of its webhooks any more"),
}


class SecretStore:
    """The secrets in `file`; the people's tokens are those of `tokens_file`, which `up` makes.

    Those that are named by `elsewhere` others make.
    """

    def __init__(self, file: Path, tokens_file: Path, *, elsewhere: Collection[str] = ()) -> None:
        self._file = file
        self._tokens_file = tokens_file
        self._elsewhere = frozenset(elsewhere)

    def make_missing(self) -> list[str]:
        """Make the secrets that there are not yet; return their names."""
        kept = self._read()
        makers = {**_ROTATED, **{name: maker for name, (maker, _) in _FIXED.items()}}
        missing = [name for name in sorted(makers) if name not in kept and name not in self._elsewhere]
        if missing:
            self._write({**kept, **{name: [makers[name]()] for name in missing}})
        return missing

    def names(self) -> list[str]:
        """Return the names of all secrets."""
        return sorted({*self._read(), TOKENS} - {_FORMER_TOKENS})

    def value(self, name: str) -> str:
        """Return a secret's present value."""
        return self._tokens_file.read_text() if name == TOKENS else self._read()[name][0]

    def has(self, name: str) -> bool:
        """Whether there is a secret of this name."""
        return name in self._read()

    def keep(self, values: Mapping[str, str]) -> None:
        """Give secrets that are made elsewhere their values."""
        self._write({**self._read(), **{name: [value] for name, value in values.items()}})

    def take(self, values: Mapping[str, str]) -> None:
        """Take over the values of secrets that others make; a changed one keeps its former ones until settled."""
        kept = self._read()
        changed = {name: value for name, value in values.items() if kept.get(name, [])[:1] != [value]}
        if changed:
            self._write({**kept, **{name: [value, *kept.get(name, [])] for name, value in changed.items()}})

    def former(self, name: str) -> list[str]:
        """Return the values before the rotations that are not settled, the last one first."""
        kept = self._read()
        return kept.get(_FORMER_TOKENS, []) if name == TOKENS else kept[name][1:]

    def mounted(self) -> dict[str, str]:
        """Return name -> value of what services get to read."""
        kept = {name: values[0] for name, values in self._read().items() if name not in _AT_HOME}
        return {**kept, TOKENS: self.value(TOKENS)}

    def rotate(self, name: str) -> list[str]:
        """Give one secret, or with `all` each that can change, a new value; return their names."""
        if name in self._elsewhere:
            raise UsageError(
                f"{name} is made by the owner of what it is for",
                next='have another made there, name its file (SLIPWAY_S3_KEYS, SLIPWAY_REGISTRY_LOGIN), then "make up"',
            )
        if name in _FIXED:
            raise UsageError(f"{name} does not change: {_FIXED[name][1]}", next="slipway secrets rotate all")
        known = sorted({*_ROTATED, TOKENS} - self._elsewhere)
        if name not in ("all", *known):
            raise UsageError(
                f"no secret {name[:40]!r}", next="one of: " + ", ".join(["all", *known, CERTIFICATE, AUTHORITY])
            )
        self.make_missing()
        kept, chosen = self._read(), known if name == "all" else [name]
        for each in chosen:
            if each == TOKENS:
                kept[_FORMER_TOKENS] = [self.value(TOKENS), *kept.get(_FORMER_TOKENS, [])]
            else:
                kept[each] = [_ROTATED[each](), *kept[each]]
        self._write(kept)
        if TOKENS in chosen:
            # Last, so that a kill in between loses none that an API still knows.
            self._rotate_tokens()
        return chosen

    def settle(self) -> None:
        """Forget the former values: the new ones are in force everywhere."""
        kept = self._read()
        settled = {name: values[:1] for name, values in kept.items() if name != _FORMER_TOKENS}
        if settled != kept:
            self._write(settled)

    def _rotate_tokens(self) -> None:
        people: Sequence[str] = list(json.loads(self._tokens_file.read_text()))
        write_whole(self._tokens_file, json.dumps({person: secrets.token_urlsafe(32) for person in people}))

    def _read(self) -> dict[str, list[str]]:
        if not self._file.exists():
            if came_up(self._file.parent):
                raise UsageError(f"{self._file} is missing", next=_RESTORE)
            return {}
        if self._file.stat().st_mode & 0o077:
            raise UsageError(f"{self._file} can be read by others", next=f"chmod 600 {self._file}")
        try:
            kept: dict[str, list[str]] = json.loads(self._file.read_text())
        except ValueError:
            # Its text must not get into a message, nor into what led to one.
            kept = {}
        if not kept:
            raise UsageError(f"{self._file} holds no secrets", next=_RESTORE)
        return kept

    def _write(self, kept: dict[str, list[str]]) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self._file, json.dumps(kept, indent=1, sort_keys=True))


def read_given(path: Path, setting: str) -> Any:
    """Return the JSON of a file of secrets that the operator names by `setting`; raise UsageError without its text."""
    try:
        private, text = not path.stat().st_mode & 0o077, path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{setting}={path} can't be read: {error}", next="name a readable file of JSON") from None
    if not private:
        raise UsageError(f"{setting}={path} can be read by others", next=f"chmod 600 {path}")
    try:
        return json.loads(text)
    except ValueError:
        raise UsageError(f"{setting}={path} is not JSON", next="mend it") from None
