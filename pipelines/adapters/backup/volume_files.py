"""The files of a volume, taken out and put in through a container that never starts: whatever uses it goes on."""

import tarfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
from docker.errors import NotFound

from pipelines.adapters.containers.engine_secrets import PREFIX_LABEL
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import Undecided

# Whom the files belong to in every container of an installation.
_USER = 10001
# Where images have a folder that is theirs: a volume that nobody used yet gets its owner.
_PLACE = "/data"


class VolumeFiles:
    """The volume of a name, on one engine; `image` is that of who uses it, whose folder /data it becomes."""

    def __init__(self, engine: DockerEngine, prefix: str, volume: str, *, image: str) -> None:
        self._engine = engine
        self._description: dict[str, Any] = {
            "image": image,
            "command": ["true"],
            "entrypoint": [],
            "labels": {PREFIX_LABEL: prefix},
            "network_disabled": True,
        }
        self._volume = volume

    def take(self, folders: Collection[str], into: Path, scratch: Path) -> None:
        """Copy folders of the volume below `into`; those that are not there are left out.

        `scratch` is where an archive may lie meanwhile. Raises Undecided for one that does not arrive whole.
        """
        with self._carrier() as (api, carrier):
            for folder in folders:
                try:
                    parts, _ = api.get_archive(carrier, f"{_PLACE}/{folder}")
                except NotFound:
                    continue
                _unpack(parts, into, scratch)

    def put(self, path: Path) -> None:
        """Copy a file, or a folder with all that is in it, to the top of the volume."""
        archive = path.with_name(f"{path.name}.tar")
        try:
            with tarfile.open(archive, "w") as packed:
                packed.add(path, arcname=path.name, filter=_owned)
            with self._carrier() as (api, carrier), archive.open("rb") as content:
                api.put_archive(carrier, _PLACE, content)
        finally:
            archive.unlink(missing_ok=True)

    @contextmanager
    def _carrier(self) -> Iterator[tuple[docker.APIClient, str]]:
        with self._engine.api() as api:
            mounted = [{"Type": "volume", "Source": self._volume, "Target": _PLACE}]
            host = api.create_host_config(network_mode="none", mounts=mounted)
            carrier = str(api.create_container(**self._description, host_config=host)["Id"])
            try:
                yield api, carrier
            finally:
                api.remove_container(carrier, force=True)


def _unpack(parts: Iterator[bytes], into: Path, scratch: Path) -> None:
    """Write the plain files of an archive that arrives in parts below `into`.

    A name with a dot before it belongs to what is being made or removed.
    """
    archive = scratch / "volume.tar"
    try:
        with archive.open("wb") as file:
            file.writelines(parts)
        with tarfile.open(archive, "r:") as packed:
            packed.extractall(into, members=(each for each in packed if _is_settled(each)), filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise Undecided(f"the files of a volume arrived damaged: {error}", next="do it again") from error
    finally:
        archive.unlink(missing_ok=True)


def _is_settled(entry: tarfile.TarInfo) -> bool:
    return entry.isreg() and not any(part.startswith(".") for part in entry.name.split("/"))


def _owned(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = _USER
    entry.uname = entry.gname = ""
    entry.mode = 0o700 if entry.isdir() else 0o600
    return entry
