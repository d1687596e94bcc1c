"""/status: what serves, what was last seen serving, and what is under way."""

from typing import Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from pipelines.api.guard import guarded_router
from pipelines.api.requests import Model, Reading, now
from pipelines.api.responses import Digest, ModelName, ResponseBody, Time, Version
from pipelines.api.routes.evaluations import EvaluationRecord
from pipelines.api.routes.maintenance import MaintenanceRecord
from pipelines.api.routes.policy import PolicyInForce, policy_in_force
from pipelines.api.routes.promotions import PromotionRecord
from pipelines.api.routes.releases import ReleaseShown
from pipelines.api.routes.rollbacks import RollbackRecord
from pipelines.api.work import ExecutorSign, events_of, follow, last_sign
from pipelines.domain.promotion import ReleaseState, RunState
from pipelines.domain.records import (
    Evaluation,
    Lease,
    Maintenance,
    Observation,
    Promotion,
    ReleaseRecord,
    Rollback,
)
from pipelines.governance.models import served_models
from pipelines.ports import Records
from pipelines.releases.stalled import stalled_work

# What was seen serving is no event: it is looked up so often.
LOOK_S = 1.0
# What grows by itself is no change.
_PASSING = {"executor": {"age_s"}}

router = guarded_router("status")

UnfinishedWork = EvaluationRecord | PromotionRecord | RollbackRecord | MaintenanceRecord


class ReplicaSeen(ResponseBody):
    """One serving process as it answered on its own address; null means that it did not answer."""

    name: str
    digest: Digest | None
    version: Version | None
    ready: bool
    restarts: int = Field(description="How often it was started again.")
    pid: int | None = Field(description="Its process id, where it runs.")


class EnvironmentSeen(ResponseBody):
    """What an environment was last seen to serve, beside what the records and the alias say."""

    id: str = Field(description="Model and environment, with a slash between.")
    recorded: Version | None = Field(description="The version that the release record names.")
    alias: Version | None = Field(description="The version that the registry's alias points at.")
    replicas: list[ReplicaSeen]
    drift: str | None = Field(description="How record, alias and replicas disagree.")
    at: Time


class LeaseHeldBy(ResponseBody):
    """Who may change an environment now."""

    id: str = Field(description="Model and environment, with a slash between.")
    holder: str | None = Field(description="Id of the work that changes it.")
    epoch: int = Field(description="Grows with every holder and every take-over.")
    executor: str
    acquired_at: Time


class PolicyName(ResponseBody):
    """Which policy is in force; both null before the first."""

    digest: Digest | None
    profile: str | None = Field(description="`full` or `demo`.")


class Status(ResponseBody):
    """What serves, what was last seen serving, what waits, and who holds a lease."""

    model: ModelName
    models: list[str] = Field(description="The models of the installation, the default one first.")
    serving: dict[str, ReleaseShown] = Field(description="By environment; none where nothing was released.")
    observed: dict[str, EnvironmentSeen] = Field(description="By environment.")
    unfinished: list[UnfinishedWork]
    stalled: list[str] = Field(description="Which of it should go on and does not, a line each.")
    leases: list[LeaseHeldBy] = Field(description="Those that are held.")
    executor: ExecutorSign
    policy: PolicyName


@router.get("")
def show_status(state: Reading, model: Model) -> Status:
    """Return what serves, what was last seen serving, what waits, who holds a lease, and the executor's last sign."""
    records = state.records
    seen = {where: each for each in records.find(Observation) if (where := _environment(each.id, model))}
    serving = records.find(ReleaseRecord, model=model, state=ReleaseState.SERVING)
    return Status(
        model=model,
        models=served_models(records, state.model),
        serving={str(release.environment): ReleaseShown.model_validate(release) for release in serving},
        observed={where: EnvironmentSeen.model_validate(each) for where, each in seen.items()},
        unfinished=_unfinished(records, model),
        stalled=stalled_work(records, now()),
        leases=[
            LeaseHeldBy.model_validate(lease)
            for lease in records.find(Lease)
            if lease.holder and _environment(lease.id, model)
        ],
        executor=last_sign(records),
        policy=_policy_name(records, model),
    )


@router.get("/events", **events_of(Status, "the status as `{}`, whenever it has changed"))
def follow_status(request: Request, state: Reading, model: Model) -> StreamingResponse:
    """Stream the status as server-sent events for as long as somebody listens."""
    return follow(
        request, state, lambda: show_status(state, model), is_last=lambda status: False, look_s=LOOK_S, passing=_PASSING
    )


def _environment(id: str, model: str) -> str:
    """Return the environment of an id of a model and an environment, "" where it is of another model."""
    named, _, environment = id.rpartition("/")
    return environment if named == model else ""


def _unfinished(records: Records, model: str) -> list[UnfinishedWork]:
    forms: tuple[tuple[type[Any], type[Any]], ...] = (
        (Evaluation, EvaluationRecord),
        (Promotion, PromotionRecord),
        (Rollback, RollbackRecord),
        (Maintenance, MaintenanceRecord),
    )
    # By state, which has an index: of what has ended there is ever more, and nobody waits for it.
    alive = [state for state in RunState if not state.final]
    found = []
    for kind, form in forms:
        works = [work for state in alive for work in records.find(kind, model=model, state=state)]
        works.sort(key=lambda work: int(work.id.rpartition("-")[2]))
        found += [form.model_validate(work) for work in works]
    return found


def _policy_name(records: Records, model: str) -> PolicyName:
    policy = policy_in_force(records, model)
    if not isinstance(policy, PolicyInForce):
        return PolicyName(digest=None, profile=None)
    profile = policy.policy.get("profile")
    return PolicyName(digest=policy.digest, profile=str(profile) if profile else None)
