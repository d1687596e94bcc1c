"""A world for the workflows: fakes of the ports, a real database, and people who ask, decide and look."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipelines import commands
from pipelines.adapters.database.records import SqlRecords, now
from pipelines.adapters.storage.bundle_store import BundleStore
from pipelines.adapters.storage.checkpoints_file import FileCheckpoints
from pipelines.domain.bundle import digest_of
from pipelines.domain.promotion import Override
from pipelines.domain.records import Evaluation, Promotion, Rollback
from pipelines.domain.release import Endpoint, Environment, Slot
from pipelines.evaluation.evaluate import evaluate
from pipelines.evaluation.gates.registry import GATES
from pipelines.executor.scheduler import carry_out
from pipelines.governance.standing import evidence_of
from pipelines.ports import HttpReply, JobBounds, LoadRun, never_ending
from pipelines.releases.leader import take_leader_lease
from pipelines.releases.promote import release_promotion
from pipelines.releases.rollback import roll_back
from pipelines.releases.services import Services, Timing
from pipelines.settings.settings import ROOT
from tests.support.servers.databases import sqlite_records
from tests.support.world.fakes import FakeJobs, FakeModelRegistry, FakeTarget
from tests.support.world.records import written

MODEL = "plant-model"
PRODUCTION, STAGING = Environment.PRODUCTION, Environment.STAGING


def runtime_said(**changes: Any) -> dict[str, Any]:
    """Return what a replica says that it runs with."""
    said = {
        "code": "sha256:c",
        "python": "3.11.7",
        "packages": {"onnxruntime": "1.31.0"},
        "settings": ["SLIPWAY_STAGE"],
    }
    limits = {"memory_bytes": 2.0**30, "processors": None, "files": 1024.0}
    said |= {"limits": limits, "network": ["eth0", "lo"], "secrets": [], "user": 1000}
    return {**said, "peak_memory_bytes": 70 * 2**20, **changes}


class PassingProbe:
    """Answers a smoke test as the service would, out of the bundle that was started."""

    def __init__(self, bundles: BundleStore, target: FakeTarget) -> None:
        self._bundles, self._target = bundles, target

    def get(self, url: str) -> HttpReply:
        release = self._release()
        if url.endswith("/ready"):
            return HttpReply(200, {"digest": release.bundle_digest, "version": release.version, "pid": 1}, {})
        if url.endswith("/runtime"):
            return HttpReply(200, runtime_said(), {})
        body = {"stage": "Staging", "status": "ok", "model": release.model}
        return HttpReply(200, {**body, "version": release.version, "digest": release.bundle_digest}, {})

    def post(self, url: str, content: bytes, headers: dict[str, str], *, timeout_s: float | None = None) -> HttpReply:
        import json

        release = self._release()
        golden = self._bundles.body(release.bundle_digest)["golden"]
        try:
            sent = json.loads(content)
        except ValueError:
            return HttpReply(400, {"error": {"code": "not_json"}}, {})
        if url.endswith("/batch"):
            return HttpReply(200, {"predictions": golden["expected"]}, {})
        for row, expected in zip(golden["rows"], golden["expected"], strict=True):
            if sent == row:
                served = {"version": release.version, "request_id": headers.get("x-request-id")}
                return HttpReply(200, {**expected, **served}, {})
        names = [{"field": name} for name in (*golden["rows"][0], *sent)]
        return HttpReply(422, {"error": {"code": "invalid_field", "fields": names}}, {})

    def _release(self) -> Any:
        release = self._target.observe(Endpoint(MODEL, STAGING), Slot.TRIAL).release
        assert release is not None
        return release


class ScriptedLoads:
    """A load runner that answers with `verdict`, or with a whole `result`."""

    def __init__(self) -> None:
        self.verdict = "passed"
        self.result: dict[str, Any] | None = None
        self.plans: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def run(
        self,
        plan: dict[str, Any],
        rows: list[dict[str, Any]],
        workdir: Path,
        *,
        check: Callable[[], None] = never_ending,
    ) -> LoadRun:
        self.plans.append(plan)
        self.rows = rows
        self.meanwhile()
        check()
        check = {"name": "p95", "verdict": self.verdict, "observed": 9.0, "interval": [8.0, 10.0], "limit": 100.0}
        check |= {"judged": True, "message": f"{self.verdict} p95"}
        result = self.result or {"verdict": self.verdict, "via": "direct", "checks": [check]}
        return LoadRun(result, b"<html>")

    def remove_left(self) -> set[str]:
        return set()


class RememberingJobs(FakeJobs):
    """Runs a job once in a process: its answer depends on the task and the files alone, and takes long to make."""

    _answers: ClassVar[dict[tuple[bytes, tuple[tuple[str, bytes], ...]], bytes]] = {}

    def run(
        self,
        task: bytes,
        files: Mapping[str, Path],
        bounds: JobBounds,
        *,
        check: Callable[[], None] = never_ending,
    ) -> bytes:
        if self.answer is not None or self.options:
            return super().run(task, files, bounds, check=check)
        given = task, tuple((name, file.read_bytes()) for name, file in files.items())
        if given in self._answers:
            check()
            self.bounds.append(bounds)
        else:
            self._answers[given] = super().run(task, files, bounds, check=check)
        return self._answers[given]


@dataclass
class World:
    services: Services
    registry: FakeModelRegistry
    target: FakeTarget
    loads: ScriptedLoads
    jobs: FakeJobs
    records: SqlRecords
    register: Callable[..., str]

    def step(self, name: str, action: Callable[[], Any]) -> Any:
        return action()

    def evaluated(self, version: str, override: Override | None = None) -> Evaluation:
        asked = commands.request_evaluation(
            self.records, person="alice", model=MODEL, version=version, override=override, now=now()
        )
        evaluate(self.services, asked.id, self.step)
        return self.records.get(Evaluation, asked.id)

    def approved(self, version: str, override: Override | None = None) -> Promotion:
        """Ask for production, let the evaluation run if one is needed, and have bob say yes."""
        asked = commands.request_promotion(
            self.records, person="alice", model=MODEL, version=version, override=override, now=now()
        )
        evaluation = self.records.get(Evaluation, asked.evaluation_id)
        if not evaluation.state.final:
            evaluate(self.services, evaluation.id, self.step)
        self.round()
        evidence = evidence_of(self.records, asked)
        commands.decide(
            self.records, person="bob", promotion_id=asked.id, approved=True, reason="", evidence=evidence, now=now()
        )
        return self.records.get(Promotion, asked.id)

    def promoted(self, version: str, override: Override | None = None) -> Promotion:
        promotion = self.approved(version, override)
        release_promotion(self.services, promotion.id, self.step)
        return self.records.get(Promotion, promotion.id)

    def rolled_back(self) -> Rollback:
        asked = commands.request_rollback(self.records, person="alice", model=MODEL, environment=PRODUCTION, now=now())
        roll_back(self.services, asked.id, self.step)
        return self.records.get(Rollback, asked.id)

    def round(self) -> None:
        """Let the executor move what may move, starting no workflow."""
        carry_out(self.services, {Evaluation: _idle, Promotion: _idle, Rollback: _idle})

    def serving(self, environment: Environment = PRODUCTION) -> str | None:
        release = self.services.serving(MODEL, environment)
        live = self.target.observe(Endpoint(MODEL, environment), Slot.LIVE).release
        assert (live.id if live else None) == (release.id if release else None)
        return release.version if release else None

    def lifecycle(self, version: str) -> str | None:
        return self.registry.version(MODEL, version).tags.get("lifecycle")

    def apply_policy(self, **accuracy: float) -> None:
        body = policy_body()
        body["gates"]["accuracy"].update(accuracy)
        commands.request_policy(self.records, person="alice", model=MODEL, policy=GATES.read_policy(body), now=now())
        self.round()


def _idle(work_id: str) -> None:
    return None


def policy_body() -> dict[str, Any]:
    body = written(ROOT / "policy.demo.yaml")
    body["gates"]["accuracy"]["minimum"] = 0.5
    body["gates"]["comparison"]["margin"] = 0.2
    return body


@pytest.fixture(scope="session")
def plants_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One training, whose files every test registers as it likes."""
    from tests.support.world.trained import trained

    return trained(tmp_path_factory.mktemp("plants")).root


@pytest.fixture
def world(tmp_path: Path, plants_home: Path) -> World:
    return make_world(tmp_path, plants_home)


def make_world(tmp_path: Path, plants_home: Path) -> World:
    """Make a world whose files are in one directory, and whose versions are those trained in another."""
    target, registry, loads = FakeTarget(replicas=2), FakeModelRegistry(), ScriptedLoads()
    bundles, jobs = BundleStore(tmp_path / "bundles"), RememberingJobs(tmp_path / "jobs")
    records = sqlite_records(tmp_path, FileCheckpoints(tmp_path / "checkpoints"))
    services = Services(
        records=records,
        registry=registry,
        target=target,
        loads=loads,
        jobs=jobs,
        probe=PassingProbe(bundles, target),
        bundles=bundles,
        workdir=tmp_path,
        executor="one",
        model=MODEL,
        now=now,
        timing=Timing(converge_s=0.5, empty_s=0.5, registry_s=0.3, watch_s=0.0, poll_s=0.001),
    )
    take_leader_lease(services)
    counter = itertools.count(1)
    own = (plants_home / "data/snapshots/evaluation.parquet").read_bytes()
    trained_on = (plants_home / "models/training-rows.parquet").read_bytes()
    drawn = (plants_home / "data/snapshots/reference.parquet").read_bytes()

    def register(
        evaluation: bytes = own,
        training_rows: bytes | None = trained_on,
        reference: bytes | None = drawn,
        **more_tags: str,
    ) -> str:
        # A version of its own digest: the commit is part of a bundle's provenance.
        tags = {"mlflow.source.git.commit": f"commit-{next(counter)}"}
        tags["slipway.dataset.evaluation"] = digest_of(evaluation)
        tags |= more_tags
        artifacts = {"slipway/evaluation.parquet": evaluation}
        artifacts["slipway/predictions.parquet"] = (plants_home / "models/predictions.parquet").read_bytes()
        if training_rows is not None:
            artifacts["slipway/training-rows.parquet"] = training_rows
        if reference is not None:
            artifacts["slipway/reference.parquet"] = reference
        return registry.register(
            MODEL,
            onnx=(plants_home / "models/model.onnx").read_bytes(),
            input_types={"height": "double", "age": "long", "potted": "long", "soil": "string"},
            artifacts=artifacts,
            run_tags=tags,
        ).version

    world = World(services, registry, target, loads, jobs, records, register)
    world.apply_policy()
    return world
