"""Fakes of the roles in pipelines.ports; each passes the contract suite of its role."""

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from pipelines.adapters.jobs.files import lay_out
from pipelines.domain.audit import Checkpoint
from pipelines.domain.names import checked_version
from pipelines.domain.release import Endpoint, Phase, Release, Replica, RunsFrom, Slot, SlotState
from pipelines.domain.version import RegisteredVersion
from pipelines.errors import (
    DeployFailed,
    LostLease,
    RegistryUnavailable,
    Undecided,
    UnknownVersion,
    UsageError,
)
from pipelines.ports import HttpReply, JobBounds, LoadRun, never_ending

FAKE_URL = "http://127.0.0.1:9"


class FakeTarget:
    """A target in memory that goes one step on with every look at a slot.

    `broken` maps a bundle digest to what its replicas log before they crash; the bundles in `missing`
    cannot be prepared; those in `hanging` start for ever. `runs_from` are the images of bundles. While it is `away`,
    nothing is discarded. `sampled` are the replicas of an endpoint's live slot, as what they answer who pulls their
    requests.
    """

    def __init__(self, replicas: int = 1) -> None:
        self.broken: dict[str, tuple[str, ...]] = {}
        self.missing: set[str] = set()
        self.hanging: set[str] = set()
        self.discarded: set[str] = set()
        self.runs_from: dict[str, RunsFrom] = {}
        self.away = False
        self.sampled: dict[Endpoint, list[Callable[[bytes], bytes]]] = {}
        self._replicas = replicas
        self._epochs: dict[Endpoint, int] = {}
        self._states: dict[tuple[Endpoint, Slot], SlotState] = {}
        self._wanted: dict[tuple[Endpoint, Slot], Release | None] = {}

    def prepare(self, endpoint: Endpoint, bundle_digest: str) -> None:
        """Refuse the bundles in `missing`."""
        if bundle_digest in self.missing:
            raise DeployFailed(f"no bundle {bundle_digest}")

    def discard(self, bundle_digest: str) -> None:
        """Note what is needed no more."""
        if self.away:
            raise DeployFailed("the image registry does not answer")
        self.discarded.add(bundle_digest)

    def start(self, release: Release, slot: Slot, *, epoch: int) -> None:
        """Begin to serve `release`; `observe` brings it further."""
        self.prepare(release.endpoint, release.bundle_digest)
        self._change(release.endpoint, slot, release, epoch)

    def observe(self, endpoint: Endpoint, slot: Slot) -> SlotState:
        """Return the state as it is, and go one step on."""
        state = self._state(endpoint, slot)
        if state.phase is Phase.STARTING:
            self._states[endpoint, slot] = self._stepped(endpoint, state)
        return state

    def images(self, release: Release) -> RunsFrom | None:
        """Return what a test has said of the bundle."""
        return self.runs_from.get(release.bundle_digest)

    def pull_samples(self, endpoint: Endpoint, slot: Slot, question: bytes) -> list[bytes]:
        """Return what the replicas in `sampled` answer."""
        return [answer(question) for answer in self.sampled.get(endpoint, ())] if slot is Slot.LIVE else []

    def highest_epoch(self, endpoint: Endpoint) -> int:
        """Return the greatest epoch seen."""
        return self._epochs.get(endpoint, 0)

    def set_traffic_weights(self, endpoint: Endpoint, weights: dict[Slot, int], *, epoch: int) -> None:
        """Accept all to live, as the local target does."""
        if {slot: weight for slot, weight in weights.items() if weight} != {Slot.LIVE: 1}:
            raise UsageError(f"cannot share a port as {weights}")
        self._fence(endpoint, epoch)

    def restore(self, endpoint: Endpoint, release: Release | None, *, epoch: int) -> None:
        """Bring live back to `release`."""
        self._change(endpoint, Slot.LIVE, release, epoch)

    def stop(self, endpoint: Endpoint, slot: Slot, *, epoch: int) -> None:
        """Begin to empty a slot."""
        self._change(endpoint, slot, None, epoch)

    def lose_a_replica(self, endpoint: Endpoint) -> None:
        """Let the first replica of `live` crash: it is started again and not ready yet."""
        state = self._state(endpoint, Slot.LIVE)
        first = replace(state.replicas[0], ready=False, restarts=state.replicas[0].restarts + 1)
        self._states[endpoint, Slot.LIVE] = replace(state, replicas=(first, *state.replicas[1:]))

    def forget(self) -> None:
        """Lose all that was asked for and served."""
        self._epochs.clear()
        self._states.clear()
        self._wanted.clear()

    def _change(self, endpoint: Endpoint, slot: Slot, release: Release | None, epoch: int) -> None:
        self._fence(endpoint, epoch)
        state = self._state(endpoint, slot)
        wanted_id = release.id if release else None
        if state.phase is Phase.FAILED or state.wanted_id != wanted_id:
            self._wanted[endpoint, slot] = release
            self._states[endpoint, slot] = replace(
                state,
                phase=Phase.STARTING,
                wanted_id=wanted_id,
                failure=None,
                last_log=(),
                own_failure=False,
                url=FAKE_URL,
            )

    def _stepped(self, endpoint: Endpoint, state: SlotState) -> SlotState:
        wanted = self._wanted[endpoint, state.slot]
        digest = wanted.bundle_digest if wanted else ""
        if digest in self.hanging:
            return state
        if digest in self.broken:
            failure = f"{state.slot}-1 exited with status 3 while starting"
            return replace(state, phase=Phase.FAILED, failure=failure, last_log=self.broken[digest], own_failure=True)
        replicas = tuple(
            Replica(f"{state.slot}-{number}", digest, wanted.version, ready=True, restarts=0, pid=number)
            for number in range(1, self._replicas + 1)
            if wanted
        )
        phase = Phase.SETTLED if wanted else Phase.EMPTY
        url = FAKE_URL if wanted or state.slot is Slot.LIVE else None
        return replace(state, phase=phase, release=wanted, replicas=replicas, url=url)

    def _state(self, endpoint: Endpoint, slot: Slot) -> SlotState:
        url = FAKE_URL if slot is Slot.LIVE else None
        empty = SlotState(slot, Phase.EMPTY, release=None, wanted_id=None, url=url, replicas=())
        return self._states.get((endpoint, slot), empty)

    def _fence(self, endpoint: Endpoint, epoch: int) -> None:
        seen = self._epochs.get(endpoint, epoch)
        if epoch < seen:
            raise LostLease(f"lost lease, epoch {epoch} < {seen}")
        self._epochs[endpoint] = epoch


class FakeModelRegistry:
    """A model registry in memory; `down` makes it unreachable.

    `register` is the trainer's side: it logs a run and a version at once.
    """

    def __init__(self) -> None:
        self.down = False
        self.evidence: dict[tuple[str, str], dict[str, bytes]] = {}
        self._versions: dict[str, list[RegisteredVersion]] = {}
        self._models: dict[str, tuple[bytes | None, dict[str, str]]] = {}
        self._runs: dict[str, tuple[dict[str, bytes], dict[str, str]]] = {}
        self._aliases: dict[str, dict[str, str]] = {}
        self._deleted: set[tuple[str, str]] = set()

    def delete(self, model: str, version: str) -> None:
        """Delete a version and the aliases that point at it, as people do on MLflow's page."""
        self._deleted.add((model, version))
        self._aliases[model] = {alias: at for alias, at in self._aliases.get(model, {}).items() if at != version}

    def register(
        self,
        model: str,
        *,
        onnx: bytes | None,
        input_types: dict[str, str],
        artifacts: dict[str, bytes],
        run_tags: dict[str, str],
    ) -> RegisteredVersion:
        """Log a run and register its model; `onnx` None is a version without ONNX model."""
        held = self._versions.setdefault(model, [])
        run_id = f"run-{model}-{len(held) + 1}"
        version = RegisteredVersion(model, str(len(held) + 1), run_id, f"models:/m-{run_id}")
        held.append(version)
        self._models[version.source] = (onnx, input_types)
        self._runs[run_id] = (artifacts, run_tags)
        return version

    def overwrite(self, version: RegisteredVersion, onnx: bytes) -> None:
        """Change a registered version's model, as anyone with rights on the experiment can."""
        self._models[version.source] = (onnx, self._models[version.source][1])

    def forget_artifact(self, version: RegisteredVersion, path: str) -> None:
        """Take one file away from a version's run, or leave a run that never had it."""
        self._run(version.run_id or "")[0].pop(path, None)

    def log_artifact(self, run_id: str, path: str, content: bytes) -> None:
        """Add one file to a run, or change it."""
        self._run(run_id)[0][path] = content

    def version(self, model: str, version: str) -> RegisteredVersion:
        """Return one version, or raise UnknownVersion."""
        return self._held(model)[self._position(model, version)]

    def newest(self, model: str) -> RegisteredVersion:
        """Return the last version, or raise UnknownVersion."""
        held = [each for each in self._held(model) if (model, each.version) not in self._deleted]
        if not held:
            raise UnknownVersion(f"{model} has no version")
        return held[-1]

    def fetch_model(self, version: RegisteredVersion, into: Path) -> None:
        """Write the files of the logged model into `into`, as MLflow lays them out."""
        self._answer()
        onnx, input_types = self._models[version.source]
        into.mkdir(parents=True, exist_ok=True)
        columns = json.dumps([{"name": name, "type": kind} for name, kind in input_types.items()])
        described: dict[str, Any] = {"flavors": {"sklearn": {}} if onnx is None else {"onnx": {"data": "model.onnx"}}}
        described |= {"signature": {"inputs": columns}} if input_types else {}
        (into / "MLmodel").write_text(json.dumps(described))
        (into / "requirements.txt").write_text("onnxruntime\n")
        if onnx is not None:
            (into / "model.onnx").write_bytes(onnx)

    def fetch_artifact(self, run_id: str, path: str, into: Path) -> Path | None:
        """Write one artifact into `into`, if the run has it."""
        self._answer()
        content = self._run(run_id)[0].get(path)
        if content is None:
            return None
        target = into / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return target

    def run_tags(self, run_id: str) -> dict[str, str]:
        """Return the tags of a run."""
        self._answer()
        return dict(self._run(run_id)[1])

    def aliases(self, model: str) -> dict[str, str]:
        """Return alias -> version."""
        self._answer()
        return dict(self._aliases.get(model, {}))

    def move_alias(self, model: str, alias: str, version: str | None) -> None:
        """Point `alias` at `version`, or remove it."""
        self._answer()
        if version is None:
            self._aliases.get(model, {}).pop(alias, None)
        else:
            self._position(model, version)
            self._aliases.setdefault(model, {})[alias] = version

    def set_tag(self, model: str, version: str, key: str, value: str) -> None:
        """Set one tag of a version."""
        position = self._position(model, version)
        held = self._held(model)
        held[position] = replace(held[position], tags={**held[position].tags, key: value})

    def set_description(self, model: str, version: str, text: str) -> None:
        """Set what people read of a version first."""
        position = self._position(model, version)
        held = self._held(model)
        held[position] = replace(held[position], description=text)

    def attach_evidence(self, version: RegisteredVersion, files: dict[str, bytes]) -> None:
        """Keep `files` as the version's evidence, also among the artifacts of its run."""
        self._answer()
        self.evidence.setdefault((version.model, version.version), {}).update(files)
        self._run(version.run_id)[0].update({f"evidence/{name}": body for name, body in files.items()})

    def _answer(self) -> None:
        if self.down:
            raise RegistryUnavailable("the registry is down")

    def _held(self, model: str) -> list[RegisteredVersion]:
        self._answer()
        return self._versions.get(model, [])

    def _position(self, model: str, version: str) -> int:
        for position, held in enumerate(self._held(model)):
            if held.version == checked_version(version) and (model, version) not in self._deleted:
                return position
        raise UnknownVersion(f"{model} has no version {version}")

    def _run(self, run_id: str) -> tuple[dict[str, bytes], dict[str, str]]:
        if run_id not in self._runs:
            raise UnknownVersion(f"no run {run_id}")
        return self._runs[run_id]


class FakeProbe:
    """A model service that answers as its contract says; `answers` overrides some, `nullable` fields may be missing.

    A key of `answers` is a path, for posts with `#` and the number of the request to that path counted from 0;
    an exception is raised instead of answered.
    """

    def __init__(self, release: Release, golden: dict[str, Any]) -> None:
        self.answers: dict[str, HttpReply | DeployFailed] = {}
        self.nullable: set[str] = set()
        self._release = release
        self._golden = golden
        self._posts: dict[str, int] = {}

    def get(self, url: str) -> HttpReply:
        """Answer /health and /ready."""
        path = urlsplit(url).path
        identity = {"version": self._release.version, "digest": self._release.bundle_digest}
        stage = self._release.environment.stage
        health = {"stage": stage, "status": "ok", "model": self._release.model, **identity}
        return self._given(path) or HttpReply(200, health if path == "/health" else identity, {})

    def post(self, url: str, content: bytes, headers: dict[str, str], *, timeout_s: float | None = None) -> HttpReply:
        """Predict golden rows, and refuse all else."""
        path = urlsplit(url).path
        number = self._posts[path] = self._posts.get(path, -1) + 1
        return self._given(f"{path}#{number}") or self._answer(path, content, headers.get("x-request-id", "made"))

    def _given(self, key: str) -> HttpReply | None:
        given = self.answers.get(key)
        if isinstance(given, DeployFailed):
            raise given
        return given

    def _answer(self, path: str, content: bytes, request_id: str) -> HttpReply:
        try:
            body = json.loads(content)
        except ValueError:
            return HttpReply(400, {"error": {"code": "not_json", "request_id": request_id}}, {})
        identity = {"model": self._release.model, "version": self._release.version, "request_id": request_id}
        rows = body["rows"] if path == "/predict/batch" else [body]
        wrong = [field for row in rows for field in self._wrong_fields(row)]
        if wrong:
            fields = [{"field": field, "message": "refused"} for field in wrong]
            return HttpReply(422, {"error": {"code": "invalid_field", "fields": fields, "request_id": request_id}}, {})
        known = self._golden["rows"]
        predicted = [self._golden["expected"][known.index(row) if row in known else 0] for row in rows]
        answered = {"predictions": predicted} if path == "/predict/batch" else predicted[0]
        return HttpReply(200, answered | identity, {})

    def _wrong_fields(self, row: dict[str, Any]) -> list[str]:
        known = self._golden["rows"][0]
        kept = [name for name, value in row.items() if isinstance(value, dict) or str(value) == "nan"]
        return [*(set(known) - set(row) - self.nullable), *(set(row) - set(known)), *kept]


class FakeLoadRunner:
    """A load run that measured `result`, or was refused with `refusal`; `plans` keeps what was asked."""

    def __init__(self, result: dict[str, Any] | None = None, refusal: Undecided | None = None) -> None:
        self.result = result or {"verdict": "inconclusive", "via": "direct", "checks": []}
        self.refusal = refusal
        self.plans: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []

    def run(
        self,
        plan: dict[str, Any],
        rows: list[dict[str, Any]],
        workdir: Path,
        *,
        check: Callable[[], None] = never_ending,
    ) -> LoadRun:
        """Return the result at once."""
        check()
        self.plans.append(plan)
        self.rows = rows
        if self.refusal:
            raise self.refusal
        return LoadRun(self.result, b"<html></html>")

    def remove_left(self) -> set[str]:
        """Find nothing: a run here ends at once."""
        return set()


class FakeJobs:
    """Runs the program of jobs in this very process, bounded by nothing; `answer` is given instead, once it is set."""

    def __init__(self, place: Path, program: str = "pipelines.evaluation.job") -> None:
        self.answer: bytes | Exception | None = None
        self.options: dict[str, Any] = {}
        self.bounds: list[JobBounds] = []
        self._place = place
        self._program = program

    def run(
        self,
        task: bytes,
        files: Mapping[str, Path],
        bounds: JobBounds,
        *,
        check: Callable[[], None] = never_ending,
    ) -> bytes:
        """Lay the files out and call the program."""
        check()
        self.bounds.append(bounds)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is not None:
            return self.answer
        self._place.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._place) as folder:
            lay_out(Path(folder), task, files)
            answer: bytes = importlib.import_module(self._program).carry_out(task, Path(folder), **self.options)
            return answer

    def remove_left(self) -> set[str]:
        """Find nothing: a job here ends at once."""
        return set()


class FakeCheckpoints:
    """Checkpoints in memory."""

    def __init__(self) -> None:
        self._checkpoints: set[Checkpoint] = set()

    def export(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint."""
        self._checkpoints.add(checkpoint)

    def checkpoints(self) -> list[Checkpoint]:
        """Return every checkpoint, by number."""
        return sorted(self._checkpoints, key=lambda checkpoint: (checkpoint.seq, checkpoint.hash))


class FakeVersions:
    """Registered versions `numbers`, the newest last; `down` makes the registry unreachable."""

    def __init__(self, *numbers: str) -> None:
        self.down = False
        self._numbers = numbers

    def versions(self, model: str, before: int | None = None) -> tuple[list[dict[str, Any]], bool]:
        """Return each version, newest first."""
        if self.down:
            raise RegistryUnavailable("the registry is down")
        rows = [
            {"version": n, "run_id": f"run-{n}", "tags": {}, "aliases": [], "cut": False}
            for n in reversed(self._numbers)
            if before is None or int(n) < before
        ]
        return rows, False

    def resolve(self, model: str, version: str | None) -> str:
        """Return `version` if it is registered, the newest for None; raise UnknownVersion."""
        known = [row["version"] for row in self.versions(model)[0]]
        if not known or version not in (None, *known):
            raise UnknownVersion(f"{model} has no version {version}")
        return version or str(known[0])


class FakeBundles:
    """Bundles known by digest only; those in `corrupt` do not hold."""

    def __init__(self) -> None:
        self.corrupt: set[str] = set()

    def has(self, digest: str) -> bool:
        """Every bundle is there."""
        return True

    def path(self, digest: str) -> Path:
        """Return a directory named by digest, unless the bundle is corrupt."""
        if digest in self.corrupt:
            raise DeployFailed(f"digest mismatch, expected {digest}")
        return Path(digest.replace(":", "-"))

    def body(self, digest: str) -> dict[str, Any]:
        """Return a description that names no more than the format."""
        return {"schema_version": 1}

    def put(self, body: dict[str, Any], files: dict[str, Path]) -> str:
        """Refuse: nothing is stored here."""
        raise DeployFailed("this store is read-only")
