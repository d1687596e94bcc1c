"""What others run for an installation, its object store and its image registry, and what they gave for it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines.adapters.containers.secret_store import SecretStore
from pipelines.adapters.images.external_registry import LOGIN, ExternalRegistry
from pipelines.adapters.storage.external_store import KEYS, ExternalStore, read_keys
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import UsageError

# As infra/main.tf names the secrets.
_STORE_AUTHORITY, _REGISTRY_AUTHORITY = "objects-ca.pem", "ca.pem"
_ROOT = frozenset({"minio-root-password", "minio-root-user"})
_OWN = "its own"


@dataclass(frozen=True)
class ExternalServices:
    """An external object store and image registry, where there are such.

    `keys` and `login` are the operator's files. What they hold is kept with the other secrets, so that they are needed
    once, and again when it changes.
    """

    store: ExternalStore | None = None
    registry: ExternalRegistry | None = None
    keys: Path | None = None
    login: Path | None = None

    @property
    def secrets(self) -> frozenset[str]:
        """The names of the secrets that are not made here."""
        return (KEYS | _ROOT if self.store else frozenset()) | ({LOGIN} if self.registry else frozenset())

    @property
    def images(self) -> frozenset[str]:
        """The names of the images that are not needed."""
        return frozenset(({"minio"} if self.store else set()) | ({"image_registry"} if self.registry else set()))

    @property
    def ports(self) -> frozenset[str]:
        """The names of the ports that are not published."""
        return frozenset(({"s3"} if self.store else set()) | ({"images"} if self.registry else set()))

    def variables(self) -> dict[str, Any]:
        """Return what Terraform has to know of it."""
        store, registry, told = self.store, self.registry, dict[str, Any]()
        if store:
            place = {"endpoint": store.endpoint, "region": store.region, "url": store.url}
            told["object_store_external"] = {**place, "has_authority": store.authority is not None}
            told["buckets"] = asdict(store.buckets)
        if registry:
            has_authority = registry.authority is not None
            told["image_registry_external"] = {"address": registry.address, "has_authority": has_authority}
        return told

    def authorities(self) -> dict[str, str]:
        """Return name -> certificate of who signed theirs, as services get to read them."""
        found = {
            _STORE_AUTHORITY: self.store.authority if self.store else None,
            _REGISTRY_AUTHORITY: self.registry.authority if self.registry else None,
        }
        return {name: path.read_text() for name, path in found.items() if path}

    def check_unmoved(self, kept: Mapping[str, Any]) -> None:
        """Raise UsageError where an installation made with the variables `kept` has them elsewhere: they hold data."""
        now = self.variables()
        places = [
            ("image registry", _registry_of(kept), _registry_of(now), "the releases that serve are pinned there"),
            ("object store", _store_of(kept), _store_of(now), "it holds artifacts, data and checkpoints"),
        ]
        for what, was, given, why in places:
            if was != given:
                raise UsageError(
                    f"the {what} of this installation is {was}, not {given}: {why}",
                    next="name that one again, or bring up a new installation: another SLIPWAY_HOME and SLIPWAY_PREFIX",
                )

    def given(self, secrets: SecretStore) -> dict[str, str]:
        """Return the secrets that others made, from their files or as kept; raise UsageError for what is missing."""
        _check_used(self.keys, "SLIPWAY_S3_KEYS", "object_store", self.store)
        _check_used(self.login, "SLIPWAY_REGISTRY_LOGIN", "image_registry", self.registry)
        found = {name: secrets.value(name) for name in KEYS | {LOGIN} if name in self.secrets and secrets.has(name)}
        if self.keys:
            found |= read_keys(self.keys)
        if self.registry and self.login:
            found[LOGIN] = self.registry.read_login(self.login)
        if self.store and not found.keys() >= KEYS:
            raise UsageError(
                f"the keys of the object store at {self.store.url} are missing", next="name their file: SLIPWAY_S3_KEYS"
            )
        if self.registry and LOGIN not in found:
            raise UsageError(
                f"the login to the image registry {self.registry.address} is missing",
                next="name its file: SLIPWAY_REGISTRY_LOGIN",
            )
        return found

    def check_store(self, given: Mapping[str, str], *, retention_days: int) -> None:
        """Try the keys of the object store; raise UsageError or Undecided with what is missing."""
        if self.store:
            self.store.check(given, retention_days=retention_days)

    def enter_registry(self, given: Mapping[str, str], images: Mapping[str, str], engine: DockerEngine) -> None:
        """Push the app's image with the login of the image registry; raise UsageError if it can't be."""
        if self.registry:
            self.registry.enter(given[LOGIN], images["app"], engine)


def left_outside(kept: Mapping[str, Any]) -> Iterator[str]:
    """Say what an installation made with the variables `kept` leaves behind when it is removed."""
    if kept.get("object_store_external"):
        buckets = ", ".join(kept["buckets"].values())
        yield f"left for its owner: the buckets {buckets} at {kept['object_store_external']['url']}"
    if kept.get("image_registry_external"):
        yield f"left for its owner: the images below {_registry_of(kept)}/slipway"


def _store_of(variables: Mapping[str, Any]) -> str:
    store = variables.get("object_store_external")
    return f"an external one with {', '.join(variables['buckets'].values())}" if store else _OWN


def _registry_of(variables: Mapping[str, Any]) -> str:
    return str((variables.get("image_registry_external") or {}).get("address", _OWN))


def _check_used(file: Path | None, setting: str, name: str, chosen: object) -> None:
    if file and not chosen:
        raise UsageError(
            f"{setting} is given, but no {name} is chosen",
            next=f"name {name} in the file of SLIPWAY_INFRA, or unset it",
        )
