"""An installation on containers, taken while it runs, and put back as another under a prefix that nothing has.

The order is that of a home on one machine: the checkpoints before the chain, the workflow journal before the records,
then MLflow and all that is named by digest. What a restore that was cut off has made in the engine is known by a mark,
which carries the home, and is removed by the next one into that home.
"""

from collections.abc import Callable
from pathlib import Path

from pipelines.adapters.backup.database_dumps import DatabaseDumps
from pipelines.adapters.backup.local_home import HOME, take_place
from pipelines.adapters.backup.numbered_files import read_index
from pipelines.adapters.backup.volume_files import VolumeFiles
from pipelines.adapters.containers.engine_parts import EngineParts
from pipelines.adapters.containers.engine_secrets import DockerSecrets
from pipelines.adapters.containers.swarm_installation import SwarmInstallation
from pipelines.adapters.storage.object_copies import ObjectCopies
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import Undecided, UsageError
from pipelines.settings.terraform_outputs import StackOutputs

# Before every name beside the home's: what it belongs to.
DATABASES, OBJECTS, VOLUME = "databases", "objects", "volume"
# Put into the executor's volume, it tells of the restore.
NOTE = "restored.json"
# In the order in which they are taken.
_DATABASES = ("workflows", "slipway", "mlflow")
_HEADS = "heads"
_OTHER_OBJECTS = ("artifacts", "dvc")
# Of the home and of the executor's volume; what else is there can be had again, or tells of processes.
_HOME_FILES = ("ca.crt", "infra.json", "installation.json", "secrets.json", "tokens.json")
_FOLDERS = ("bundles", "evaluation-sets")
_RELEASED = "SELECT id, state FROM releases ORDER BY id"
_TRIES = 3
_MARK = "restoring"

ProgressReporter = Callable[[str], None]


class SwarmPlace:
    """Fills ports.BackupPlace for the installation `prefix`, whose operator's side is `home`.

    `opened` opens the installation with its operator's side in any folder.
    """

    def __init__(
        self, engine: DockerEngine, prefix: str, home: Path, opened: Callable[[Path], SwarmInstallation]
    ) -> None:
        self._engine = engine
        self._prefix = prefix
        self._home = home
        self._opened = opened
        self._parts = EngineParts(engine, prefix)
        self._secrets = DockerSecrets(engine, prefix)

    def capture(self, scratch: Path, report_progress: ProgressReporter) -> dict[str, Path]:
        """Return every file of the state by its name in a backup; raise UsageError while nothing runs.

        Raises Undecided while releases end faster than the databases can be dumped.
        """
        installation = self._opened(self._home)
        with installation.left_alone("backup"):
            stack = installation.outputs()
            access = installation.root_objects(stack)
            objects, buckets = ObjectCopies(access) if access else None, stack.object_store.buckets.model_dump()
            files = dict[str, Path]()

            def take_objects(role: str) -> None:
                into = scratch / OBJECTS / role
                if objects:
                    files.update({f"{OBJECTS}/{role}/{n}": into / n for n in objects.take(buckets[role], into)})

            take_objects(_HEADS)
            files |= self._dumped(stack.services.database, scratch / DATABASES)
            report_progress(f"copied the databases {', '.join(_DATABASES)}")
            for role in _OTHER_OBJECTS:
                take_objects(role)
            volume = scratch / VOLUME
            volume.mkdir()
            self._volume("home", installation).take(_FOLDERS, volume, scratch)
            files |= {f"{VOLUME}/{path.relative_to(volume).as_posix()}": path for path in _plain(volume)}
            files |= {f"{HOME}/{path.name}": path for name in _HOME_FILES if (path := self._home / name).exists()}
        if not objects:
            report_progress(f"left to their owner: the buckets {', '.join(buckets.values())}")
        return dict(sorted(files.items()))

    def refuse_used(self) -> None:
        """Raise UsageError where the prefix has anything in the engine, but for what a restore into this home left."""
        names = self._parts.names()
        if not names:
            return
        if self._secrets.noted(self._mark) != str(self._home):
            raise UsageError(
                f"the prefix {self._prefix} is used, by {len(names)} parts such as {names[0]}",
                next='name another by SLIPWAY_PREFIX, or "make destroy CONFIRM=yes" that installation from its home',
            )
        self._parts.remove_all()
        self._secrets.remove_others(())

    def install(self, staged: Path, report_progress: ProgressReporter) -> None:
        """Bring up what keeps data, fill it, and let the staged home become the home.

        Raises BackupDamaged, before anything is made, for an index of objects that does not fit its files.
        """
        for folder in sorted((staged / OBJECTS).glob("*")):
            read_index(folder)
        home = staged / HOME
        installation = self._opened(home)
        self._secrets.note(self._mark, str(self._home))

        def put(stack: StackOutputs) -> None:
            self._put_databases(stack.services.database, staged / DATABASES, installation)
            report_progress(f"loaded the databases {', '.join(_DATABASES)}")
            access = installation.root_objects(stack)
            for role, bucket in stack.object_store.buckets.model_dump().items():
                if access and (staged / OBJECTS / role).exists():
                    count = ObjectCopies(access).put(staged / OBJECTS / role, bucket)
                    report_progress(f"put {count:,} objects into the bucket {bucket}")
            volume = self._volume("home", installation)
            for each in [*(staged / VOLUME / name for name in _FOLDERS), home / NOTE]:
                if each.exists():
                    volume.put(each)

        installation.fill(put, report_progress)
        (home / NOTE).unlink(missing_ok=True)
        take_place(home, self._home)
        self._secrets.remove(self._mark)

    @property
    def _mark(self) -> str:
        return f"{self._prefix}-{_MARK}"

    def _volume(self, name: str, installation: SwarmInstallation) -> VolumeFiles:
        return VolumeFiles(self._engine, self._prefix, f"{self._prefix}-{name}", image=installation.image("control"))

    def _dumped(self, service: str, into: Path) -> dict[str, Path]:
        dumps = DatabaseDumps(self._engine, service)
        into.mkdir()
        for _ in range(_TRIES):
            before = dumps.ask("slipway", _RELEASED)
            for name in _DATABASES:
                dumps.dump(name, into / f"{name}.dump")
            # A release that ended in between would be in MLflow's copy, and not in that of the records.
            if dumps.ask("slipway", _RELEASED) == before:
                return {f"{DATABASES}/{name}.dump": into / f"{name}.dump" for name in _DATABASES}
        raise Undecided("releases ended while the databases were copied", next="back up again")

    def _put_databases(self, service: str, staged: Path, installation: SwarmInstallation) -> None:
        dumps = DatabaseDumps(self._engine, service)
        self._volume("postgres", installation).put(staged)
        for name in _DATABASES:
            dumps.load(name, f"/data/{DATABASES}/{name}.dump")
        dumps.remove(f"/data/{DATABASES}")


def _plain(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]
