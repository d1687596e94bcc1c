"""Executors of tests: each with fakes of its own, and records that it may share with others."""

from collections.abc import Callable
from pathlib import Path

from pipelines.ports import Records
from pipelines.releases.services import Services
from tests.support.world.fakes import (
    FakeBundles,
    FakeJobs,
    FakeLoadRunner,
    FakeModelRegistry,
    FakeProbe,
    FakeTarget,
)
from tests.support.world.records import release


def executor(records: Records, name: str, now: Callable[[], str]) -> Services:
    """Return the world of the executor `name`, whose clock is `now`."""
    return Services(
        records=records,
        registry=FakeModelRegistry(),
        target=FakeTarget(replicas=2),
        loads=FakeLoadRunner(),
        jobs=FakeJobs(Path("unused")),
        probe=FakeProbe(release().release, {}),
        bundles=FakeBundles(),
        workdir=Path("unused"),
        executor=name,
        now=now,
    )
