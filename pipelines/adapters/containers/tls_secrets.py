"""What an installation needs to be published beyond this machine: a certificate, and a login to its image registry.

A made certificate and its authority are kept with the other secrets. The authority stays when the certificate is
renewed, so that those who trust it need not be told again.
"""

import base64
import hashlib
import json
import socket
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bcrypt

from pipelines.adapters.containers import certificates
from pipelines.adapters.containers.certificates import Certified
from pipelines.adapters.containers.secret_store import AUTHORITY, CERTIFICATE, SecretStore
from pipelines.errors import UsageError
from pipelines.settings.binding import Binding

USER = "slipway"
PASSWORD = "registry-password"
# A guess at 240 random bits gains nothing from a cheap hash, and engines log in at every pull.
_ROUNDS = b"$2b$05$"
_DIGITS = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


class TlsSecrets:
    """Those of one installation with the image registry `registry`, `name:port`; on loopback there are none."""

    def __init__(
        self,
        binding: Binding,
        registry: str,
        store: SecretStore,
        authority_file: Path,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._binding = binding
        self._registry = registry
        self._store = store
        self._authority_file = authority_file
        self._now = now

    def check(self) -> None:
        """Raise UsageError when what was given for TLS can't work; nothing is changed."""
        binding = self._binding
        if not binding.exposed:
            return
        try:
            socket.getaddrinfo(binding.name, None)
        except (OSError, UnicodeError):
            raise UsageError(
                f"this machine does not know {binding.name}",
                next="tell its name service; engines and clients need the name too",
            ) from None
        if not binding.generate:
            authority = _read(binding.authority, "SLIPWAY_TLS_CA") if binding.authority else None
            certificates.check(self._given(), binding.name, self._now(), authority=authority)

    def mounted(self) -> dict[str, str]:
        """Return name -> value of what services get to read; make what is missing, of another name, or ends soon."""
        if not self._binding.exposed:
            return {}
        certified, authority = self._given_or_made()
        password = self._store.value(PASSWORD)
        login = base64.b64encode(f"{USER}:{password}".encode()).decode()
        return {
            # Whoever trusts nothing else trusts at least what it will be shown.
            "ca.pem": authority or certified.certificate,
            "config.json": json.dumps({"auths": {self._registry: {"auth": login}}}),
            "registry-users": f"{USER}:{_bcrypt(password)}\n",
            "tls-certificate": certified.certificate,
            "tls-key": certified.key,
        }

    def variable(self, placed: Mapping[str, Mapping[str, str]]) -> dict[str, Any] | None:
        """Return Terraform's variable of TLS, by the ids of the secrets that `mounted` told, None on loopback."""
        if not self._binding.exposed:
            return None
        names = {"certificate": "tls-certificate", "key": "tls-key", "registry_users": "registry-users"}
        return {name: placed[secret] for name, secret in names.items()}

    def login(self) -> tuple[str, str] | None:
        """Return user and password of the image registry, None where it wants none."""
        return (USER, self._store.value(PASSWORD)) if self._binding.exposed else None

    def ends(self) -> datetime | None:
        """Return until when the certificate holds, None where there is none."""
        return certificates.ends(self._given_or_made()[0].certificate) if self._binding.exposed else None

    def rotate(self, name: str) -> list[str]:
        """Make a certificate (`tls`), or one and another authority (`tls-ca`), anew; return what was.

        With `all` the authority stays. Another name is none of these.
        """
        if name not in (CERTIFICATE, AUTHORITY, "all"):
            return []
        if not self._binding.generate:
            if name == "all":
                return []
            given = "renew the files of SLIPWAY_TLS_CERT and SLIPWAY_TLS_KEY, then make up"
            none = "on 127.0.0.1 there is no certificate; SLIPWAY_BIND and SLIPWAY_TLS=generate make one"
            raise UsageError(f"no {name} is made here", next=given if self._binding.exposed else none)
        if name == AUTHORITY or self._is_authority_due():
            self._make_authority()
            return [CERTIFICATE, AUTHORITY]
        self._make_certificate()
        return [CERTIFICATE]

    def _given_or_made(self) -> tuple[Certified, str | None]:
        """Return the certificate, and its authority's where that is not one that everybody knows."""
        binding = self._binding
        if not binding.generate:
            return self._given(), _read(binding.authority, "SLIPWAY_TLS_CA") if binding.authority else None
        if self._is_authority_due():
            self._make_authority()
        elif certificates.is_due(self._store.value("tls-certificate"), binding.name, self._now()):
            self._make_certificate()
        authority = self._store.value(AUTHORITY)
        if not self._authority_file.exists() or self._authority_file.read_text() != authority:
            self._authority_file.write_text(authority)
        return Certified(self._store.value("tls-certificate"), self._store.value("tls-key")), authority

    def _given(self) -> Certified:
        return Certified(
            _read(self._binding.certificate, "SLIPWAY_TLS_CERT"), _read(self._binding.key, "SLIPWAY_TLS_KEY")
        )

    def _is_authority_due(self) -> bool:
        if not self._store.has(AUTHORITY):
            return True
        return certificates.is_authority_due(self._store.value(AUTHORITY), self._binding.name, self._now())

    def _make_authority(self) -> None:
        """Make an authority, and at once what it is for: no certificate of a former one is left."""
        self._make_certificate(certificates.make_authority(self._binding.name, self._now()))

    def _make_certificate(self, authority: Certified | None = None) -> None:
        signer = authority or Certified(self._store.value(AUTHORITY), self._store.value("tls-ca-key"))
        made = certificates.issue(signer, self._binding.name, self._now())
        self._store.keep(
            {
                AUTHORITY: signer.certificate,
                "tls-ca-key": signer.key,
                "tls-certificate": made.certificate,
                "tls-key": made.key,
            }
        )


def _read(path: Path | None, setting: str) -> str:
    if path is None:
        raise UsageError(f"{setting} is not set", next="name a file in PEM")
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{setting}={path} can't be read: {error}", next="name a readable file in PEM") from None


def _bcrypt(password: str) -> str:
    """Return a hash of a random password, each time the same, so that services with it are not replaced each time."""
    digest = hashlib.sha256(b"image registry " + password.encode()).digest()
    salt = bytes(_DIGITS[byte % len(_DIGITS)] for byte in digest[:21])
    # The last of 22 digits has two bits.
    return bcrypt.hashpw(password.encode(), _ROUNDS + salt + b".").decode()
