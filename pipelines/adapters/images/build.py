"""Builds the images below infra/images, and names each by a hash of its inputs.

A build sees the files that its Dockerfile copies and nothing else, so nothing can change an image behind the hash.
"""

import hashlib
import io
import os
import re
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired

from pipelines.adapters.images.engine_client import EngineClient, ca_bundle
from pipelines.errors import ImageUnavailable, UsageError

IMAGES = Path("infra/images")
BASE = "debian:trixie-slim"
PULL_S = 300.0
BUILD_S = 1800.0
AT_ONCE = 2
TAIL_LINES = 20
_FAILED = re.compile(r"^(#\d+) ERROR", re.MULTILINE)
_COPY = re.compile(r"^COPY\s+(?!--from=)(?:--\S+\s+)*(.+)$", re.MULTILINE)

ProgressReporter = Callable[[str], None]


@dataclass(frozen=True)
class Origin:
    """What images are built from, and the repository that their tags are in."""

    base: str = BASE
    repository: str = "slipway"


DEFAULT = Origin()


def image_names(settings_root: Path) -> list[str]:
    """Return the images that there are recipes for."""
    return sorted(path.parent.name for path in (settings_root / IMAGES).glob("*/Dockerfile"))


def build_images(
    settings_root: Path,
    names: Sequence[str],
    *,
    report_progress: ProgressReporter,
    environ: Mapping[str, str] = os.environ,
    origin: Origin = DEFAULT,
) -> dict[str, str]:
    """Build those of `names` (all, when empty) that are missing; return name -> image id.

    Each is tagged `<repository>/<name>:<hash>`. Raises UsageError for an unknown name, EngineUnavailable, and
    ImageUnavailable when the base is missing or a build fails.
    """
    known = image_names(settings_root)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"no image {unknown[0][:40]!r}", next="one of: " + ", ".join(known))
    client = EngineClient.found(environ)
    base_id = _base_id(client, origin.base, report_progress)
    build = _Build(client, settings_root, origin, base_id, report_progress)
    chosen = list(names or known)
    # One waits for the network while the other compiles; the first steps that they share are built once.
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(chosen, pool.map(build.image, chosen), strict=True))


def pack_inputs(settings_root: Path, name: str) -> bytes:
    """Return as a tar the Dockerfile of an image and the files that it copies, the same bytes for the same content."""
    recipe = IMAGES / name / "Dockerfile"
    copied = {recipe, *_copied(settings_root, recipe)}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(copied):
            content = (settings_root / path).read_bytes()
            entry = tarfile.TarInfo(str(path))
            entry.size = len(content)
            entry.mode = 0o755 if os.access(settings_root / path, os.X_OK) else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _copied(root: Path, recipe: Path) -> Iterator[Path]:
    """Yield the files that a Dockerfile copies from the repository, relative to it."""
    text = (root / recipe).read_text().replace("\\\n", " ")
    for words in _COPY.findall(text):
        for source in words.split()[:-1]:
            found = sorted(path for path in _files(root / source) if path.suffix != ".pyc")
            if not found:
                raise UsageError(f"{recipe} copies {source}, which is not there", next="restore it, or mend the recipe")
            yield from (path.relative_to(root) for path in found)


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    elif place.is_dir():
        yield from (path for path in place.rglob("*") if path.is_file())


def _base_id(client: EngineClient, base: str, report_progress: ProgressReporter) -> str:
    """Return the id of the base, pulling it where that is possible."""
    known = client.asked("image", "inspect", "--format", "{{.Id}}", base)
    if known is None:
        report_progress(f"pulling {base}")
        client.asked("pull", base, limit_s=PULL_S)
        known = client.asked("image", "inspect", "--format", "{{.Id}}", base)
    if known is None:
        raise ImageUnavailable(
            f"the base image {base} is missing and can't be pulled", next=f'"make offline", or: docker pull {base}'
        )
    return known


@dataclass(frozen=True)
class _Build:
    """What all builds of one call share."""

    client: EngineClient
    root: Path
    origin: Origin
    base_id: str
    report_progress: ProgressReporter

    def image(self, name: str) -> str:
        """Return the id of an image, building it when there is none with the hash of its inputs."""
        inputs = pack_inputs(self.root, name)
        digest = hashlib.sha256(self.base_id.encode() + inputs).hexdigest()
        tag = f"{self.origin.repository}/{name}:{digest[:12]}"
        known = self.client.asked("image", "inspect", "--format", "{{.Id}}", tag)
        if known is not None:
            return known
        self.report_progress(f"building {tag}")
        begun = time.monotonic()
        built = self._built(name, tag, inputs)
        self.report_progress(f"built {tag} in {time.monotonic() - begun:.0f} s")
        return built

    def _built(self, name: str, tag: str, inputs: bytes) -> str:
        authorities = ca_bundle(self.client.environ)
        with tempfile.TemporaryDirectory() as directory:
            id_file = Path(directory) / "id"
            words = ["build", "--progress", "plain", "--iidfile", str(id_file), "--tag", tag]
            words += ["--build-arg", f"BASE={self.origin.base}", "--label", f"slipway.image={name}"]
            words += ["--secret", f"id=ca,src={authorities}"] if authorities else []
            words += ["--file", str(IMAGES / name / "Dockerfile"), "-"]
            try:
                done = self.client.run(*words, content=inputs, limit_s=BUILD_S)
            except TimeoutExpired:
                raise ImageUnavailable(f"building {name} took more than {BUILD_S:g} s", next="make images") from None
            if done.returncode != 0:
                tail = _last_lines((done.stderr + done.stdout).decode(errors="replace"))
                raise ImageUnavailable(f"building {name} failed:\n{tail}", next='fix what it names, then "make images"')
            return id_file.read_text().strip()


def _last_lines(log: str) -> str:
    """Return the end of a build's log: of the step that failed, since steps run side by side."""
    lines = log.strip().splitlines()
    failed = _FAILED.search(log)
    if failed:
        lines = [line for line in lines if line.startswith(f"{failed[1]} ")]
    return "\n".join(lines[-TAIL_LINES:])
