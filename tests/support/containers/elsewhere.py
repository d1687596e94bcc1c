"""An object store and an image registry for tests that stand apart from every installation, as those of others do.

They have TLS with an authority of their own, at an address by which this machine and containers reach them.
"""

import base64
import ipaddress
import json
import secrets
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bcrypt
import docker
import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pipelines.adapters.storage.minio_admin import MinioUsers
from pipelines.adapters.storage.object_store import policies
from tests.support.containers.engine import hardened, make_volume
from tests.support.containers.needs import skip_without_containers
from tests.support.servers.object_store import READY_DEADLINE_S, MinioServer, Store
from tests.support.servers.servers import free_port
from tests.support.world.supervisors import eventually

TRUSTED = Path("/etc/docker/certs.d")
USER = "robot$slipway"


class Owner:
    """Who runs an object store: makes buckets, users and rights there, and gives each client its key."""

    def __init__(self, server: MinioServer, *, retention_days: int = 1) -> None:
        self.made = Store(server, retention_days=retention_days)
        self.rights = policies(self.made.buckets)
        of_bucket = self.rights["audit"]["Statement"][0]
        of_bucket["Action"] += ["s3:GetBucketObjectLockConfiguration", "s3:ListBucket"]
        self.allow("audit")

    def allow(self, client: str) -> None:
        """Put a client's rights, and its present key, in force."""
        access = self.made.access[client]
        MinioUsers(self.made.server.root).ensure(access.access_key, access.secret_key, self.rights[client])

    def keys(self) -> dict[str, dict[str, str]]:
        """Return the keys in the form that an operator gives them."""
        given = self.made.access.items()
        return {name: {"access_key": each.access_key, "secret_key": each.secret_key} for name, each in given}


def outer_address(engine: docker.DockerClient) -> str:
    """Return an address of this machine that containers with a way out of the engine reach as well."""
    networks = engine.networks.list(names=["docker_gwbridge"])
    if not networks:
        skip_without_containers("the engine is in no swarm; next: docker swarm init")
    return str(networks[0].attrs["IPAM"]["Config"][0]["Gateway"])


def write_certificate(directory: Path, address: str) -> Path:
    """Write `public.crt`, which is its own authority, and `private.key` of an address; return the directory."""
    directory.mkdir()
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "elsewhere")]),
    )
    now, identifier = datetime.now(UTC), x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = {"content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"}
    usage |= {"encipher_only", "decipher_only"}
    extensions: list[tuple[Any, bool]] = [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (x509.KeyUsage(digital_signature=True, key_cert_sign=True, **dict.fromkeys(usage, False)), True),
        (x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), False),
        (identifier, False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
    ]
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    pem, shape = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (directory / "public.crt").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    (directory / "private.key").write_bytes(key.private_bytes(pem, shape, serialization.NoEncryption()))
    for file in directory.iterdir():
        file.chmod(0o444)
    directory.chmod(0o755)
    return directory


class ImageRegistry:
    """An image registry that lets one user in; `address` is its `host:port`."""

    def __init__(self, host: str, port: int, password: str) -> None:
        self.address = f"{host}:{port}"
        self.password = password

    def config(self, password: str = "") -> dict[str, Any]:
        """Return the config.json of a client that has logged in."""
        pair = f"{USER}:{password or self.password}".encode()
        return {"auths": {self.address: {"auth": base64.b64encode(pair).decode()}}}


@contextmanager
def image_registry(
    engine: docker.DockerClient, image: str, home: Path, *, host: str, certificates: Path | None = None, **env: str
) -> Iterator[ImageRegistry]:
    """Run one for a block; `env` are further settings of it."""
    made = ImageRegistry(host, free_port(), secrets.token_hex(16))
    users = home / "users"
    users.mkdir(mode=0o755)
    hashed = bcrypt.hashpw(made.password.encode(), bcrypt.gensalt(5)).decode()
    (users / "htpasswd").write_text(f"{USER}:{hashed}\n")
    settings = {"REGISTRY_AUTH": "htpasswd", "REGISTRY_AUTH_HTPASSWD_PATH": "/users/htpasswd"}
    settings |= {"REGISTRY_AUTH_HTPASSWD_REALM": "elsewhere", **env}
    volumes: dict[str | Path, str] = {users: "/users"}
    if certificates:
        settings |= {
            "REGISTRY_HTTP_TLS_CERTIFICATE": "/certs/public.crt",
            "REGISTRY_HTTP_TLS_KEY": "/certs/private.key",
        }
        volumes[certificates] = "/certs"
    container = hardened(image, port=5000, env=settings, volumes=volumes, data=make_volume(engine), healthy=False)
    container.ports["5000/tcp"] = (host, int(made.address.rpartition(":")[2]))
    with container:
        _await_answer(made.address, certificates)
        yield made


def _await_answer(address: str, certificates: Path | None) -> None:
    trusted = ssl.create_default_context(cafile=certificates / "public.crt") if certificates else True
    url = f"{'https' if certificates else 'http'}://{address}/v2/"

    def asked() -> str:
        try:
            return str(httpx.get(url, verify=trusted, trust_env=False).status_code)
        except httpx.HTTPError as error:
            return repr(error)

    eventually(asked, lambda answer: answer == "401", READY_DEADLINE_S)


@contextmanager
def trusted_by_the_engine(address: str, authority: Path) -> Iterator[None]:
    """Have the engine of this machine trust a registry's authority for a block, as its operator would."""
    place = TRUSTED / address
    try:
        place.mkdir(parents=True)
    except PermissionError:
        skip_without_containers(f"only root may write to {TRUSTED}")
    try:
        (place / "ca.crt").write_bytes(authority.read_bytes())
        yield
    finally:
        (place / "ca.crt").unlink(missing_ok=True)
        place.rmdir()


def write_private(file: Path, content: object) -> Path:
    """Write JSON that its owner alone may read."""
    file.touch(mode=0o600)
    file.write_text(json.dumps(content))
    return file
