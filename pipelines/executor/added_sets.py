"""Takes in the evaluation sets that people add, beside all other work, one at a time.

The record alone says that a set is one. So what was cut off has changed nothing, and is done again from its start.
"""

import logging
import shutil
import threading
from pathlib import Path
from typing import Any

from pipelines.disk import as_full
from pipelines.domain.evalset import set_numbers
from pipelines.domain.promotion import RunState
from pipelines.domain.records import AddedSet, PinnedVersion
from pipelines.domain.release import Environment
from pipelines.errors import DatabaseUnavailable, LostLease, Refused, SlipwayError
from pipelines.evaluation.subject import keep_evaluation_set
from pipelines.executor.beside import look_after
from pipelines.governance.work import move, stop
from pipelines.packaging.added_set import ask_added_set
from pipelines.packaging.file_digest import digest_of_file
from pipelines.packaging.package import EVALUATION_ARTIFACT
from pipelines.ports import JobBounds
from pipelines.releases.leases import confirm_leader
from pipelines.releases.services import Services

_ACTION = "evalset.add"

log = logging.getLogger("slipway.added_sets")


def take_sets_in(services: Services, stopped: threading.Event) -> None:
    """Take in what people add to every model until `stopped`; what fails by no fault of a set is repeated."""
    look_after(services, stopped, SetEye, log, "take in the evaluation sets")


class SetEye:
    """Takes in what people add to one model."""

    def __init__(self, services: Services, model: str) -> None:
        self._services, self._model = services, model

    def look(self) -> None:
        """Take in every set that waits; what keeps one out, by no fault of its own, leaves the others their turn."""
        failed: Exception | None = None
        for state in (RunState.RUNNING, RunState.REQUESTED):
            for asked in self._services.records.find(AddedSet, model=self._model, state=state):
                try:
                    take_in(self._services, asked)
                except LostLease:
                    raise
                except Exception as error:
                    failed = error
        if failed:
            raise failed


def take_in(services: Services, asked: AddedSet) -> None:
    """Take one set in, or end it with what stands against it; raise LostLease, DatabaseUnavailable, OSError."""
    if asked.state is RunState.REQUESTED:
        with services.records.write() as transaction:
            confirm_leader(services, within=transaction)
            asked = move(transaction, asked, RunState.RUNNING)
    place = services.workdir / "work" / asked.id
    refusal, rows = None, 0
    try:
        rows = _keep(services, asked, place)
    except (LostLease, DatabaseUnavailable):
        raise
    except SlipwayError as against:
        refusal = against
    except OSError as error:
        refusal = as_full(error)
        if refusal is None:
            raise
    finally:
        shutil.rmtree(place, ignore_errors=True)
    with services.records.write() as transaction:
        confirm_leader(services, within=transaction)
        detail: dict[str, Any] = {"name": asked.name, "digest": asked.digest}
        if refusal:
            stop(transaction, asked, refusal, at=services.now())
            detail |= refusal.as_dict()
        else:
            pins = transaction.find(PinnedVersion, model=asked.model)
            numbers = set_numbers(pins, transaction.find(AddedSet, model=asked.model, state=RunState.DONE))
            number = numbers.get(asked.digest, len(numbers) + 1)
            move(transaction, asked, RunState.DONE, number=number, rows=rows, ended_at=services.now())
            detail |= {"number": number, "rows": rows}
        transaction.audit("executor", _ACTION, "outcome", subject=asked.id, detail=detail)


def _keep(services: Services, asked: AddedSet, place: Path) -> int:
    """Fetch a set, have a job look at it, and keep its file by its digest; return how many rows it has."""
    services.note(asked.id, "fetching", f"from run {asked.run_id}")
    file = services.registry.fetch_artifact(asked.run_id, EVALUATION_ARTIFACT, place)
    found = digest_of_file(file) if file else "nothing"
    if file is None or found != asked.digest:
        raise Refused(
            f"digest mismatch, expected {asked.digest} got {found}: {EVALUATION_ARTIFACT} of run {asked.run_id} is not"
            " what was to be added",
            next="add the file again",
        )
    services.note(asked.id, "reading", "in a confined job")
    limits = services.policy(asked.model).evaluation
    bounds = JobBounds(limits.job_s, limits.job_memory_mb)
    rows = ask_added_set(
        lambda task, files: services.jobs.run(task, files, bounds),
        file,
        model=asked.model,
        bundle=_served(services, asked.model),
    )
    keep_evaluation_set(services, file, asked.digest)
    return rows


def _served(services: Services, model: str) -> dict[str, Any] | None:
    """Return the description of the bundle in production, or else in staging; None before there is any."""
    for environment in (Environment.PRODUCTION, Environment.STAGING):
        release = services.serving(model, environment)
        if release:
            return services.bundles.body(release.bundle_digest)
    return None
