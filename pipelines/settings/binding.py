"""Where an installation is published, and under which name it is reached there.

Beyond loopback nothing is published without TLS: what can't be is refused before anything is changed.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UsageError

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
_URL = re.compile(r"(https?)://([a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?)")


@dataclass(frozen=True)
class Binding:
    """The address that edge and image registry publish on, and the name and certificate that are seen there.

    `certificate` and `key` are PEM files of one's own; `generate` asks for made ones instead. `authority` is the
    certificate of who signed one's own, where not everybody knows them.
    """

    address: str = LOOPBACK
    external_url: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None
    generate: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Binding":
        """Read SLIPWAY_BIND, SLIPWAY_EXTERNAL_URL and SLIPWAY_TLS*; raise UsageError for what can't be."""
        given = environ.get("SLIPWAY_TLS") or ""
        if given not in ("", "generate"):
            raise UsageError(
                f"SLIPWAY_TLS={given[:40]!r} is not a way to get a certificate",
                next="SLIPWAY_TLS=generate, or unset it",
            )
        binding = cls(
            address=environ.get("SLIPWAY_BIND") or LOOPBACK,
            external_url=environ.get("SLIPWAY_EXTERNAL_URL") or None,
            certificate=_path(environ, "SLIPWAY_TLS_CERT"),
            key=_path(environ, "SLIPWAY_TLS_KEY"),
            authority=_path(environ, "SLIPWAY_TLS_CA"),
            generate=given == "generate",
        )
        binding._check_names()
        binding._check_tls()
        return binding

    @property
    def exposed(self) -> bool:
        """Whether others than this machine reach it."""
        return self.address == EVERYWHERE

    @property
    def name(self) -> str:
        """The host under which people and clients reach it."""
        return self.external_url.partition("://")[2] if self.external_url else self.address

    @property
    def base_url(self) -> str:
        """What stands before the port in every link."""
        return self.external_url or f"http://{self.address}"

    @property
    def registry_host(self) -> str:
        """The host by which engines know the image registry; on loopback it has no certificate for a name."""
        return self.name if self.exposed else self.address

    def as_environ(self) -> dict[str, str]:
        """Return the settings that say the same."""
        named = {
            "SLIPWAY_BIND": self.address,
            "SLIPWAY_EXTERNAL_URL": self.external_url,
            "SLIPWAY_TLS": "generate" if self.generate else None,
            "SLIPWAY_TLS_CA": self.authority,
            "SLIPWAY_TLS_CERT": self.certificate,
            "SLIPWAY_TLS_KEY": self.key,
        }
        return {name: str(value or "") for name, value in named.items()}

    def _check_names(self) -> None:
        if not self.exposed and not _is_loopback(self.address):
            raise UsageError(
                f"SLIPWAY_BIND={self.address[:40]!r} is no address to publish on",
                next="give a loopback address (127.x.x.x), or 0.0.0.0 for every address of this machine",
            )
        if self.external_url and not _URL.fullmatch(self.external_url):
            raise UsageError(
                f"SLIPWAY_EXTERNAL_URL={self.external_url[:80]!r} is not https://name",
                next="give scheme and name alone, in lower case: the ports are those of SLIPWAY_PORT_*",
            )
        if self.exposed and (not self.base_url.startswith("https://") or _is_address(self.name)):
            raise UsageError(
                "binding to 0.0.0.0 needs the name under which this machine is reached, not an address",
                next="SLIPWAY_EXTERNAL_URL=https://name; engines and the executor find the image registry by it too",
            )

    def _check_tls(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise UsageError("SLIPWAY_TLS_CERT and SLIPWAY_TLS_KEY belong together", next="give both, or none")
        own = self.certificate is not None
        if self.generate and (own or self.authority):
            raise UsageError(
                "SLIPWAY_TLS=generate makes a certificate, and a file of one is given as well",
                next="unset SLIPWAY_TLS, or SLIPWAY_TLS_CERT, SLIPWAY_TLS_KEY and SLIPWAY_TLS_CA",
            )
        if self.exposed and not (own or self.generate):
            raise UsageError(
                "binding to 0.0.0.0 needs TLS",
                next="give SLIPWAY_TLS_CERT and SLIPWAY_TLS_KEY, or SLIPWAY_TLS=generate",
            )
        if not self.exposed and (own or self.generate):
            raise UsageError(
                f"a certificate is of no use on {self.address}, where nobody else gets to",
                next="SLIPWAY_BIND=0.0.0.0, or unset SLIPWAY_TLS, SLIPWAY_TLS_CERT and SLIPWAY_TLS_KEY",
            )


ON_LOOPBACK = Binding()


def _path(environ: Mapping[str, str], name: str) -> Path | None:
    given = environ.get(name)
    return Path(given).resolve() if given else None


def _is_loopback(address: str) -> bool:
    return _is_address(address) and address.startswith("127.")


def _is_address(name: str) -> bool:
    """Whether it is an IPv4 address, or `localhost`, which is itself in every container."""
    try:
        ipaddress.IPv4Address(name)
    except ValueError:
        return name == "localhost"
    return True
