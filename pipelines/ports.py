"""What Slipway needs of the world, as roles: adapters fill them, tests fake them.

Each role has one contract suite under tests/contract that its fake and its real adapters both pass.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pipelines.domain.audit import Checkpoint, Entry
from pipelines.domain.events import Event, EventKind
from pipelines.domain.records import Record
from pipelines.domain.release import Endpoint, Release, RunsFrom, Slot, SlotState
from pipelines.domain.version import RegisteredVersion

J = TypeVar("J")
R = TypeVar("R", bound=Record)


class ModelRegistry(Protocol):
    """Where versions are registered. Raises RegistryUnavailable when it does not answer in time."""

    def version(self, model: str, version: str) -> RegisteredVersion:
        """Return one version, or raise UnknownVersion."""

    def newest(self, model: str) -> RegisteredVersion:
        """Return the version registered last, or raise UnknownVersion."""

    def fetch_model(self, version: RegisteredVersion, into: Path) -> None:
        """Download the files of the logged model into a directory, unread; raise NotServable when there is none."""

    def fetch_artifact(self, run_id: str, path: str, into: Path) -> Path | None:
        """Download one file of a run to `into / path`, or return None when the run has none at `path`."""

    def run_tags(self, run_id: str) -> dict[str, str]:
        """Return the tags of a run."""

    def aliases(self, model: str) -> dict[str, str]:
        """Return alias -> version; empty for a model without any, or an unknown model."""

    def move_alias(self, model: str, alias: str, version: str | None) -> None:
        """Point `alias` at `version`, or remove it with None; read it back before returning."""

    def set_tag(self, model: str, version: str, key: str, value: str) -> None:
        """Set one tag of a version."""

    def set_description(self, model: str, version: str, text: str) -> None:
        """Set what people read of a version first, as Markdown."""

    def attach_evidence(self, version: RegisteredVersion, files: dict[str, bytes]) -> None:
        """Write `files` under `evidence/` on the run and on the logged model, apart from those of other versions."""


class Target(Protocol):
    """Where releases run. `start` only begins: progress is read with `observe`.

    An endpoint is a model in an environment; one that the target does not have raises TargetUnavailable.
    `epoch` is the fencing number of the endpoint's lease: a call with a smaller one than the target
    has already seen raises LostLease and changes nothing.
    """

    def prepare(self, endpoint: Endpoint, bundle_digest: str) -> None:
        """Make the bundle startable there, or raise DeployFailed when its bytes do not hold."""

    def discard(self, bundle_digest: str) -> None:
        """Remove what `prepare` made of a bundle that nothing needs any more; of one it never had, nothing."""

    def start(self, release: Release, slot: Slot, *, epoch: int) -> None:
        """Begin to serve `release` in `slot` of its endpoint; what served before goes on until the new one is ready.

        Asking for the release that the slot already serves changes nothing.
        """

    def observe(self, endpoint: Endpoint, slot: Slot) -> SlotState:
        """Ask every replica of a slot by its own address."""

    def images(self, release: Release) -> RunsFrom | None:
        """Return what the live slot runs a release from; None where that is no image, or it was not told to run it."""

    def pull_samples(self, endpoint: Endpoint, slot: Slot, question: bytes) -> list[bytes]:
        """Ask every replica of a slot, by its private address, for the requests that it has sampled.

        Returns the answers, of 8 MiB at most each; a replica that gives none is left out.
        """

    def highest_epoch(self, endpoint: Endpoint) -> int:
        """Return the greatest epoch that the endpoint has seen, 0 before the first."""

    def set_traffic_weights(self, endpoint: Endpoint, weights: dict[Slot, int], *, epoch: int) -> None:
        """Share the endpoint's port among its slots, or raise UsageError for shares it can't give."""

    def restore(self, endpoint: Endpoint, release: Release | None, *, epoch: int) -> None:
        """Bring `live` back to the recorded release (None: to no release) whatever was asked since."""

    def stop(self, endpoint: Endpoint, slot: Slot, *, epoch: int) -> None:
        """Drain a slot and leave it empty."""


@dataclass(frozen=True)
class LoadRun:
    """What a load run left behind: its parsed result, its report page and the hashes of its raw samples."""

    result: dict[str, Any]
    report_html: bytes


def never_ending() -> None:
    """Let work go on: nobody has asked for its end."""


class LoadRunner(Protocol):
    """Runs load against one URL and judges it."""

    def run(
        self,
        plan: dict[str, Any],
        rows: list[dict[str, Any]],
        workdir: Path,
        *,
        check: Callable[[], None] = never_ending,
    ) -> LoadRun:
        """Execute `plan` (the format of loadtests/plan/plan.py) with request bodies `rows`.

        `check` is called now and then; what it raises ends the run. Raises Undecided when the run could not be carried
        out at all.
        """

    def remove_left(self) -> set[str]:
        """End what runs have left whose executor died; return its names."""


@dataclass(frozen=True)
class JobBounds:
    """What a confined job may use: seconds, of the clock and of one processor, MiB, processes, and bytes to answer."""

    wall_s: float
    memory_mb: int
    processes: int = 64
    answer_bytes: int = 32 * 1024 * 1024


class JobRunner(Protocol):
    """Runs what reads files of strangers: without network and credentials, bounded in all that it takes."""

    def run(
        self,
        task: bytes,
        files: Mapping[str, Path],
        bounds: JobBounds,
        *,
        check: Callable[[], None] = never_ending,
    ) -> bytes:
        """Give a job its task and copies of `files`, by their names in its directory, and return what it answers.

        `check` is called now and then; what it raises ends the job. Raises JobFailed, with the job's last words, for
        one that met a bound or ended without an answer, and Undecided when none could be run.
        """

    def remove_left(self) -> set[str]:
        """End what jobs have left whose executor died; return its names."""


class Transaction(Protocol):
    """One all-or-nothing change of Slipway's own state, with its audit entries.

    Records are frozen: `change` returns the new one. Writers wait for each other.
    """

    def new_id(self, kind: type[Record]) -> str:
        """Return the next id of a kind, such as `p-12`; one that a stored record ever had is not given again."""

    def add(self, record: Record) -> None:
        """Store a new record."""

    def put(self, record: Record) -> None:
        """Store a record, in place of the one with its id if there is one."""

    def get(self, kind: type[R], id: str) -> R:
        """Return one record; raise UsageError when there is none."""

    def find(self, kind: type[R], **equals: object) -> list[R]:
        """Return the records whose fields equal `equals`, oldest first."""

    def newest(self, kind: type[R], limit: int, *, before: str | None = None, **equals: object) -> tuple[list[R], bool]:
        """Return the last records whose fields equal `equals`, oldest first, and whether there are older ones.

        Only those are looked at that are older than the record `before`; raises UsageError when there is none.
        """

    def change(self, record: R, **values: object) -> R:
        """Store new values of some fields and return the new record."""

    def audit(self, actor: str, action: str, phase: str, *, subject: str, detail: dict[str, Any] | None = None) -> None:
        """Append one entry to the audit chain."""

    def audited(self, subject: str) -> list[Entry]:
        """Return the audit entries of one subject, oldest first."""

    def emit(
        self, kind: EventKind, *, subject: str, model: str | None = None, detail: dict[str, Any] | None = None
    ) -> None:
        """Append one event; it is there if, and as soon as, what the transaction changes is."""

    def forget_progress(self, *, before: str, up_to: int, limit: int) -> int:
        """Remove the oldest lines of progress told before a time, of events up to a number; return how many."""

    def newest_event(self) -> int:
        """Return the number of the newest event, 0 before the first."""

    def events(
        self, *, after: int = 0, subject: str | None = None, kinds: Collection[EventKind] = (), limit: int | None = None
    ) -> list[Event]:
        """Return the events after a number, in their order: of one subject, of some kinds, the first `limit`."""


class Listener(Protocol):
    """Waits until events were committed, by whichever process. A signal can be lost: look now and then besides."""

    def wait(self, timeout_s: float) -> bool:
        """Wait for a signal or `wake`; return whether one came."""

    def wake(self) -> None:
        """End a wait of this process, from any thread."""

    def close(self) -> None:
        """Stop listening."""


class Records(Protocol):
    """Slipway's own state. Raises DatabaseUnavailable when it can't be read or written."""

    def write(self) -> AbstractContextManager[Transaction]:
        """Open a transaction that commits at the end of the block and rolls back on any error."""

    def get(self, kind: type[R], id: str) -> R:
        """Return one record; raise UsageError when there is none."""

    def find(self, kind: type[R], **equals: object) -> list[R]:
        """Return the records whose fields equal `equals`, oldest first."""

    def newest(self, kind: type[R], limit: int, *, before: str | None = None, **equals: object) -> tuple[list[R], bool]:
        """Return the last records whose fields equal `equals`, oldest first, and whether there are older ones.

        Only those are looked at that are older than the record `before`; raises UsageError when there is none.
        """

    def events(
        self, *, after: int = 0, subject: str | None = None, kinds: Collection[EventKind] = (), limit: int | None = None
    ) -> list[Event]:
        """Return the events after a number, in their order: of one subject, of some kinds, the first `limit`."""

    def listen(self) -> Listener:
        """Return what waits for the next events."""

    def audited(self, subject: str) -> list[Entry]:
        """Return the audit entries of one subject, oldest first."""

    def audit_trail(self) -> Iterator[Entry]:
        """Go through the whole audit chain, first entry first, reading it a page at a time."""

    def newest_audit(self, limit: int) -> list[Entry]:
        """Return the last `limit` entries of the audit chain, oldest first."""


class Checkpoints(Protocol):
    """Where the audit chain's checkpoints are kept, outside the database. Raises DatabaseUnavailable when it can't."""

    def export(self, checkpoint: Checkpoint) -> None:
        """Keep one checkpoint and return only when it is on disk; keeping it again is keeping it once."""

    def checkpoints(self) -> list[Checkpoint]:
        """Return every checkpoint ever exported, once, by number."""


class Bundles(Protocol):
    """Where bundles are kept by digest."""

    def has(self, digest: str) -> bool:
        """Whether a bundle is there (its bytes are checked by `path`)."""

    def path(self, digest: str) -> Path:
        """Return the bundle's directory after checking every byte; raise DeployFailed when one differs."""

    def body(self, digest: str) -> dict[str, Any]:
        """Return the parsed `bundle.json`."""

    def put(self, body: dict[str, Any], files: dict[str, Path]) -> str:
        """Store a bundle at once or not at all, and return its digest."""

    def digests(self) -> list[str]:
        """Return the digests of all bundles that are stored."""

    def set_aside(self, digest: str) -> None:
        """Take a bundle out of the store at once, until `clear_aside`."""

    def clear_aside(self, *, back: bool = False) -> None:
        """Remove what was set aside, or with `back` put it where it was; raise OSError, after all, for what resists."""


class Step(Protocol):
    """Runs one step of a durable workflow: once it has ended, a restart repeats its answer, not its work.

    Answers are JSON values. A step that was cut off is run again, so its action must bear repetition.
    """

    def __call__(self, name: str, action: Callable[[], J]) -> J:
        """Run `action` under `name`, which people see as progress."""


class WorkflowEngine(Protocol):
    """Runs durable workflows: one that was cut off goes on with its first step that has not ended.

    Raises DatabaseUnavailable when its journal can't be read or written.
    """

    def register(self, name: str, body: Callable[[str, Step], None]) -> None:
        """Name what a workflow does with the id of its work, before `launch`."""

    def launch(self) -> None:
        """Begin, and go on with what was cut off, but not with what other code began: its steps may be others.

        Raises UsageError when newer code has begun what has not ended.
        """

    def start(self, name: str, work_id: str) -> None:
        """Start a workflow under its work's id: starting it twice is starting it once."""

    def works_on(self, work_id: str) -> bool:
        """Whether a thread of this process carries that workflow out, or is about to."""

    def abandon(self, work_id: str) -> None:
        """See to it that a workflow that nobody works on is never gone on with."""

    def ended(self, *, before: str, limit: int) -> list[str]:
        """Return the ids of work whose workflow ended before a time, the oldest first."""

    def forget(self, work_ids: list[str]) -> None:
        """Remove from the journal what it has of these."""

    def close(self) -> None:
        """End; what is under way goes on with the next launch."""


@dataclass(frozen=True)
class HttpReply:
    """An HTTP answer: `body` is the parsed JSON, None when it was not JSON."""

    status: int
    body: Any
    headers: dict[str, str]


class ServiceProbe(Protocol):
    """Talks to a model service as a client would. Raises DeployFailed when it does not answer."""

    def get(self, url: str) -> HttpReply:
        """Send a GET."""

    def post(self, url: str, content: bytes, headers: dict[str, str], *, timeout_s: float | None = None) -> HttpReply:
        """Send a POST with exactly these bytes; `timeout_s` is in place of the probe's own."""


class VersionList(Protocol):
    """Which versions are registered, read-only. Raises RegistryUnavailable."""

    def versions(self, model: str, before: int | None = None) -> tuple[list[dict[str, Any]], bool]:
        """Return the newest versions older than `before`, newest first, and whether there are more.

        Each has number, run, tags and aliases; it is `cut` where it has more tags, or longer ones, than are shown.
        """

    def resolve(self, model: str, version: str | None) -> str:
        """Return `version` if it is registered, or the newest one for None; raise UnknownVersion."""


class Installation(Protocol):
    """All of one installation, from the operator's side; everything here may be repeated."""

    def known_id(self) -> str | None:
        """Return the id by which what was started from this home knows the installation; None where nothing was."""

    def up(self, report_progress: Callable[[str], None]) -> None:
        """Start what does not run and wait until all answers; what serves goes on serving."""

    def down(self, report_progress: Callable[[str], None]) -> None:
        """Stop what `up` started, and keep all state."""

    def add_model(self, model: str, report_progress: Callable[[str], None]) -> None:
        """Do for one model what `up` does, while the others serve on without a lost request."""

    def remove_model(self, model: str, report_progress: Callable[[str], None]) -> None:
        """Stop what serves a model that the settings do not have any more; the others serve on."""

    def destroy(self, report_progress: Callable[[str], None]) -> None:
        """Stop everything and remove what is kept outside of the home."""

    def logs(self, lines: int) -> dict[str, list[str]]:
        """Return the last `lines` of every part; raise UsageError when there is none."""

    def doctor(self) -> dict[str, Any] | None:
        """Have the installation examine itself where this machine can't look into it; None where it can."""

    def trainer(self) -> dict[str, str]:
        """Return the environment variables with which this machine may register versions."""


class SecretKeeper(Protocol):
    """The secrets of an installation; no value is ever returned."""

    def rotate(self, name: str, report_progress: Callable[[str], None]) -> list[str]:
        """Give one secret or `all` new values and, if the installation runs, put them in force; return their names."""

    def secret_names(self) -> list[str]:
        """Make the secrets that are missing; return the names of all."""


class BackupPlace(Protocol):
    """All state of one installation as files: taken while it runs, and put where a new one is to be."""

    def capture(self, scratch: Path, report_progress: Callable[[str], None]) -> dict[str, Path]:
        """Return every file of the state by its name in a backup, consistent with each other.

        Copies of what changes are made in `scratch`. Names that begin with `home/` belong into the home.
        """

    def refuse_used(self) -> None:
        """Raise UsageError where there is anything that a restored installation would meet."""

    def install(self, staged: Path, report_progress: Callable[[str], None]) -> None:
        """Put what `capture` named, staged below a folder, in its place: the home last, which makes it count."""


class DataRemote(Protocol):
    """Where DVC's data goes. Each call returns what DVC says."""

    def push(self, project: Path, environ: Mapping[str, str]) -> str:
        """Push the data that the project's dvc.lock names."""

    def pull(self, project: Path, environ: Mapping[str, str]) -> str:
        """Fetch it into the project."""
