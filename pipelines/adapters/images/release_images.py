"""Images of releases: the app's image and one layer with a bundle, appended in the image registry without a build."""

import contextlib
import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from docker.errors import NotFound

from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import DeployFailed

_FOLDER = "bundle"
_REPOSITORY = "slipway/release"
_APP = "slipway/app"
_LIMIT_S = 120.0


@dataclass(frozen=True)
class ImageRegistry:
    """One registry by its two addresses, `host:port`: from this process, and from the engines.

    `app` is the app's image in it, `name@sha256:<hex>` without an address. With TLS, `authority` is the file of the
    certificate that it is known by, where not everybody knows it.
    """

    here: str
    engines: str
    app: str
    plain_http: bool = False
    authority: Path | None = None


class ReleaseImages:
    """Makes and names the image of a bundle.

    `bundles` gives the verified directory of a bundle digest or raises DeployFailed. Which image belongs to a
    bundle is kept in `records`, since a tag in a registry can be moved.
    """

    def __init__(
        self,
        crane: Path,
        registry: ImageRegistry,
        bundles: Callable[[str], Path],
        *,
        records: Path,
        engine: DockerEngine,
    ) -> None:
        self._crane = crane
        self._registry = registry
        self._bundles = bundles
        self._records = records
        self._engine = engine

    @property
    def base(self) -> str:
        """The app's image without a bundle, as engines pull it."""
        return f"{self._registry.engines}/{self._registry.app}"

    def image(self, bundle_digest: str) -> str:
        """Return the bundle's image as engines pull it, made now if it never was."""
        record = self._record(bundle_digest)
        if not record.exists():
            self.prepare(bundle_digest)
        return f"{self._registry.engines}/{record.read_text().strip()}"

    def app_of(self, image: str, bundle_digest: str) -> str | None:
        """Return the app's image that an image of a bundle was made of; None for one of another app than today's."""
        record = self._record(bundle_digest)
        made = f"{self._registry.engines}/{record.read_text().strip()}" if record.exists() else None
        return self.base if made == image else None

    def prepare(self, bundle_digest: str) -> None:
        """Make sure that the registry holds an image with exactly this bundle, and record its digest.

        The same bundle on the same app gives the same image, whoever makes it and however often. While the
        registry is away, an image that was recorded and that this engine holds is good enough: a way back must
        not need the registry.
        """
        layer = _layer(self._bundles(bundle_digest))
        record = self._record(bundle_digest)
        known = record.read_text().strip() if record.exists() else None
        if known and self._holds(known, layer):
            return
        try:
            image = self._append(layer, tag=record.stem)
        except DeployFailed:
            if known and self._engine_holds(known):
                return
            raise
        self._check(image, layer)
        _write(record, image)

    def discard(self, bundle_digest: str) -> None:
        """Remove the images of a bundle, on whatever app: from the image registry, from this engine, from the records.

        Who runs the registry frees the room of what no image has any more. Raises DeployFailed while it is away.
        """
        for record in sorted(self._records.glob(f"{bundle_digest.removeprefix('sha256:')}-*.image")):
            image = record.read_text().strip()
            try:
                self._run("delete", f"{self._registry.here}/{image}")
            except DeployFailed as error:
                if "MANIFEST_UNKNOWN" not in error.message:
                    raise
            finally:
                # An image registry that lets nothing go is no reason to fill the engine's disk.
                with self._engine.api() as api, contextlib.suppress(NotFound):
                    api.remove_image(f"{self._registry.engines}/{image}")
            record.unlink()

    def _record(self, bundle_digest: str) -> Path:
        app = hashlib.sha256(self._registry.app.encode()).hexdigest()
        return self._records / f"{bundle_digest.removeprefix('sha256:')}-{app[:12]}.image"

    def _append(self, layer: bytes, *, tag: str) -> str:
        here = self._registry.here
        self._records.mkdir(parents=True, exist_ok=True)
        # On disk: the executor's /tmp is memory, of which a bundle may need more than there is.
        with tempfile.NamedTemporaryFile(suffix=".tar", dir=self._records) as file:
            try:
                file.write(layer)
                file.flush()
            except OSError as error:
                raise DeployFailed(
                    f"{self._records} can't hold the layer of the bundle: {error}", next="make room, then try again"
                ) from error
            wanted = ["-b", f"{here}/{self._registry.app}", "-f", file.name, "-t", f"{here}/{_REPOSITORY}:{tag}"]
            made = self._run("append", *wanted).decode()
        return f"{_REPOSITORY}@{made.strip().rpartition('@')[2]}"

    def _holds(self, image: str, layer: bytes) -> bool:
        try:
            self._check(image, layer)
        except DeployFailed:
            return False
        return True

    def _engine_holds(self, image: str) -> bool:
        with self._engine.api() as api:
            try:
                api.inspect_image(f"{self._registry.engines}/{image}")
            except NotFound:
                return False
        return True

    def _check(self, image: str, layer: bytes) -> None:
        """Raise DeployFailed unless the registry knows the image whole and its last layer is this one."""
        manifest = self._run("manifest", f"{self._registry.here}/{image}")
        _same(f"the manifest of {image}", image.rpartition("@")[2], _digest(manifest))
        config = self._run("config", f"{self._registry.here}/{image}")
        _same(f"the configuration of {image}", json.loads(manifest)["config"]["digest"], _digest(config))
        _same(f"the bundle layer of {image}", _digest(layer), json.loads(config)["rootfs"]["diff_ids"][-1])

    def _run(self, *arguments: str) -> bytes:
        return _ask(self._crane, self._registry, arguments)


def find_app(crane: Path, registry: ImageRegistry, image: str, records: Path) -> str:
    """Return the app's image with the id `image` as `name@sha256:<hex>` in a registry, whatever `app` says there.

    Bringing the installation up pushes it, tagged by the beginning of its id. Found once, it is read from `records`,
    so that a way back does not need the registry. Raises DeployFailed when it is not there, or is another image.
    """
    hexadecimal = image.rpartition(":")[2]
    record = records / f"app-{hexadecimal[:12]}.image"
    if not record.exists():
        named = f"{_APP}:{hexadecimal[:12]}"
        manifest = _ask(crane, registry, ("manifest", f"{registry.here}/{named}"))
        # What an engine calls the id is the digest of the configuration or, in newer ones, of the manifest.
        if _digest(manifest) != f"sha256:{hexadecimal}":
            _same(f"the app's image {named}", f"sha256:{hexadecimal}", json.loads(manifest)["config"]["digest"])
        _write(record, f"{_APP}@{_digest(manifest)}")
    return record.read_text().strip()


def _ask(crane: Path, registry: ImageRegistry, arguments: Sequence[str]) -> bytes:
    """Run crane and return what it prints; raise DeployFailed with its reason."""
    command = [str(crane), *arguments, *(["--insecure"] if registry.plain_http else [])]
    trusted = {"SSL_CERT_FILE": str(registry.authority)} if registry.authority else {}
    environ = {**os.environ, **trusted}
    try:
        done = subprocess.run(command, env=environ, capture_output=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeployFailed(f"crane {arguments[0]} did not run: {error}", next='run "make up"') from error
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise DeployFailed(
            f"the image registry {registry.here} refused: {' '.join(told)}",
            next='see whether it answers ("slipway logs"), then try again',
        )
    return done.stdout


def _layer(bundle: Path) -> bytes:
    """Return a bundle as a tar whose bytes depend on its files only."""
    folder = tarfile.TarInfo(_FOLDER)
    folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(folder)
        # What lies beside the listed files is no part of the bundle.
        for name in sorted(["bundle.json", *json.loads((bundle / "bundle.json").read_bytes())["files"]]):
            content = (bundle / name).read_bytes()
            file = tarfile.TarInfo(f"{_FOLDER}/{name}")
            file.size, file.mode = len(content), 0o644
            tar.addfile(file, io.BytesIO(content))
    return buffer.getvalue()


def _digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _same(what: str, expected: str, got: str) -> None:
    if expected != got:
        raise DeployFailed(f"{what}: digest mismatch, expected {expected} got {got}", next="try again")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as draft:
        draft.write(text + "\n")
        draft.flush()
        os.fsync(draft.fileno())
    Path(draft.name).replace(path)
