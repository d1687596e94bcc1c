"""The routes under /api/v1: each authenticates, calls one command or reads records, and translates."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from pydantic import AfterValidator, BaseModel, ConfigDict

from pipelines import commands
from pipelines.api.auth import person_of
from pipelines.api.state import ApiState
from pipelines.domain import audit
from pipelines.domain.promotion import Override, ReleaseState, RunState
from pipelines.domain.records import (
    Approval,
    Evaluation,
    LeaderLease,
    Lease,
    Maintenance,
    Observation,
    PolicyChange,
    Progress,
    Promotion,
    ReleaseRecord,
    Rollback,
)
from pipelines.domain.release import Environment
from pipelines.governance.standing import evidence_of, newest_policy
from pipelines.ports import Records

EVENTS_POLL_S = 0.3


def _state(request: Request) -> ApiState:
    state: ApiState = request.app.state.slipway
    return state


class _Guarded(APIRoute):
    """A route that looks at nothing of a request, its body least of all, before it knows who sends it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            request.state.person = person_of(request.headers.get("authorization"), _state(request).tokens)
            return await handle(request)

        return guarded


def _person(request: Request) -> str:
    person: str = request.state.person
    return person


def _encodable(text: str) -> str:
    # Half a surrogate pair raises a ValueError here; neither the database nor an answer could carry it.
    text.encode()
    return text


api_router = APIRouter(prefix="/api/v1", route_class=_Guarded)
Text = Annotated[str, AfterValidator(_encodable)]
State = Annotated[ApiState, Depends(_state)]
Person = Annotated[str, Depends(_person)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VersionRequest(_Body):
    """Asks for an evaluation or a promotion; no version means the newest registered."""

    version: Text | None = None
    override_reason: Text | None = None
    override_gates: list[Text] = []

    def override(self) -> Override | None:
        """Return the override asked for, checked."""
        return Override.parse(self.override_gates, self.override_reason)


class DecisionRequest(_Body):
    """A person's yes or no to the promotion of a version, bound to the report that was read."""

    version: Text
    approved: bool
    report_digest: Text | None = None
    reason: Text = ""


class RollbackRequest(_Body):
    """Asks for the previous good release."""

    environment: Environment = Environment.PRODUCTION


class PolicyRequest(_Body):
    """Asks for a policy to be put in force."""

    policy: dict[str, Any]


class MaintenanceRequest(_Body):
    """Asks that nothing be released while the installation itself is changed."""

    verb: Literal["down", "up"]


@api_router.get("/versions")
def list_versions(state: State) -> dict[str, Any]:
    """List the registered versions, newest first."""
    return {"model": state.model, "versions": state.versions.versions(state.model)}


@api_router.post("/evaluations", status_code=202)
def ask_evaluation(body: VersionRequest, state: State, person: Person) -> dict[str, Any]:
    """Evaluate a version into staging."""
    override = body.override()
    version = state.versions.resolve(state.model, body.version)
    asked = commands.request_evaluation(
        state.records, person=person, model=state.model, version=version, override=override, now=_now()
    )
    return {"id": asked.id, "version": version}


@api_router.post("/promotions", status_code=202)
def ask_promotion(body: VersionRequest, state: State, person: Person) -> dict[str, Any]:
    """Ask for production; the promotion then waits for its evaluation and for people."""
    override = body.override()
    version = state.versions.resolve(state.model, body.version)
    asked = commands.request_promotion(
        state.records, person=person, model=state.model, version=version, override=override, now=_now()
    )
    return {"id": asked.id, "promotion_id": asked.id, "version": version}


@api_router.post("/approvals", status_code=201)
def decide(body: DecisionRequest, state: State, person: Person) -> dict[str, Any]:
    """Approve or reject the waiting promotion of a version."""
    promotion = commands.waiting_promotion(state.records, state.model, body.version)
    evidence = evidence_of(state.records, promotion)
    if body.report_digest:
        evidence = dataclasses.replace(evidence, report_digest=body.report_digest)
    approval = commands.decide(
        state.records,
        person=person,
        promotion_id=promotion.id,
        approved=body.approved,
        reason=body.reason,
        evidence=evidence,
        now=_now(),
    )
    return {"id": approval.id, "person": person, "promotion_id": promotion.id, "evidence": approval.evidence}


@api_router.post("/rollbacks", status_code=202)
def ask_rollback(body: RollbackRequest, state: State, person: Person) -> dict[str, Any]:
    """Go back to the previous good release of an environment."""
    asked = commands.request_rollback(
        state.records, person=person, model=state.model, environment=body.environment, now=_now()
    )
    return {"id": asked.id}


@api_router.post("/policy", status_code=202)
def apply_policy(body: PolicyRequest, state: State, person: Person) -> dict[str, Any]:
    """Put a policy in force."""
    change = commands.request_policy(state.records, person=person, model=state.model, body=body.policy, now=_now())
    return {"id": change.id, "digest": change.digest}


@api_router.post("/maintenance", status_code=202)
def ask_maintenance(body: MaintenanceRequest, state: State, person: Person) -> dict[str, Any]:
    """Hold the leases of all environments while the installation is changed; a former holder is ended."""
    asked = commands.request_maintenance(state.records, person=person, model=state.model, verb=body.verb, now=_now())
    return {"id": asked.id}


@api_router.post("/maintenance/{id}/end", status_code=202)
def end_maintenance(id: str, state: State, person: Person) -> dict[str, Any]:
    """Give the leases of maintenance back."""
    return {"id": commands.end_maintenance(state.records, person=person, id=id, now=_now()).id}


@api_router.get("/maintenance/{id}")
def show_maintenance(id: str, state: State) -> dict[str, Any]:
    """Return maintenance, and what it waits for."""
    return _with_steps(state.records, Maintenance, id)


@api_router.get("/policy")
def show_policy(state: State) -> dict[str, Any]:
    """Return the policy in force and who applied it; `policy` is null before the first."""
    newest = newest_policy(state.records, state.model)
    if not newest:
        return {"policy": None}
    return {"policy": newest.body, "digest": newest.digest, "applied_by": newest.applied_by, "at": newest.ended_at}


@api_router.get("/policy/{id}")
def show_policy_change(id: str, state: State) -> dict[str, Any]:
    """Return one asked-for change of the policy."""
    return _with_steps(state.records, PolicyChange, id)


@api_router.get("/evaluations/{id}")
def show_evaluation(id: str, state: State) -> dict[str, Any]:
    """Return an evaluation, its report and its steps so far."""
    return _with_steps(state.records, Evaluation, id)


@api_router.get("/promotions/{id}")
def show_promotion(id: str, state: State) -> dict[str, Any]:
    """Return a promotion, the steps of it and of its evaluation, its evidence and its decisions."""
    shown = _with_steps(state.records, Promotion, id)
    promotion = state.records.get(Promotion, id)
    evaluation = _with_steps(state.records, Evaluation, promotion.evaluation_id)
    shown["evaluation"] = evaluation
    # An evaluation that was there before is evidence, not something that happens now.
    if not promotion.measured_before:
        shown["steps"] = evaluation["steps"] + shown["steps"]
    shown["approvals"] = [dataclasses.asdict(a) for a in state.records.find(Approval, promotion_id=id)]
    return shown


@api_router.get("/rollbacks/{id}")
def show_rollback(id: str, state: State) -> dict[str, Any]:
    """Return a rollback and its steps so far."""
    return _with_steps(state.records, Rollback, id)


@api_router.get("/evaluations/{id}/events")
def follow_evaluation(id: str, state: State) -> StreamingResponse:
    """Stream an evaluation's state and steps as server-sent events until it has ended."""
    return _stream(lambda: show_evaluation(id, state))


@api_router.get("/promotions/{id}/events")
def follow_promotion(id: str, state: State) -> StreamingResponse:
    """Stream a promotion's state and steps as server-sent events until it has ended."""
    return _stream(lambda: show_promotion(id, state))


@api_router.get("/rollbacks/{id}/events")
def follow_rollback(id: str, state: State) -> StreamingResponse:
    """Stream a rollback's state and steps as server-sent events until it has ended."""
    return _stream(lambda: show_rollback(id, state))


@api_router.get("/promotions")
def list_promotions(state: State, version: str | None = None) -> dict[str, Any]:
    """List promotions, oldest first, of one version or of all."""
    equals: dict[str, object] = {"version": version} if version else {}
    found = state.records.find(Promotion, model=state.model, **equals)
    return {"promotions": [dataclasses.asdict(promotion) for promotion in found]}


@api_router.get("/releases")
def list_releases(state: State, environment: Environment | None = None) -> dict[str, Any]:
    """List who served what when, oldest first, overrides included."""
    equals: dict[str, object] = {"environment": environment} if environment else {}
    found = state.records.find(ReleaseRecord, model=state.model, **equals)
    return {"releases": [dataclasses.asdict(release) for release in found]}


@api_router.get("/audit")
def show_audit(state: State, limit: int = 1000) -> dict[str, Any]:
    """Return the last entries of the audit trail."""
    entries = state.records.audit_trail()
    return {"entries": [dataclasses.asdict(entry) for entry in entries[-max(1, limit) :]]}


@api_router.get("/audit/verification")
def verify_audit(state: State) -> dict[str, Any]:
    """Verify the audit chain against itself and against its checkpoints outside the database."""
    # Heads first: an entry written meanwhile then has no checkpoint yet, never the reverse.
    checkpoints = state.checkpoints.checkpoints()
    return dataclasses.asdict(audit.verify(state.records.audit_trail(), checkpoints))


@api_router.get("/status")
def show_status(state: State) -> dict[str, Any]:
    """Return what serves, what was last seen serving, what waits, who holds a lease, and the executor's last sign."""
    records = state.records
    seats = records.find(LeaderLease)
    serving = records.find(ReleaseRecord, model=state.model, state=ReleaseState.SERVING)
    unfinished: list[Evaluation | Promotion | Rollback | Maintenance] = [
        *(work for work in records.find(Evaluation, model=state.model) if not work.state.final),
        *(work for work in records.find(Promotion, model=state.model) if not work.state.final),
        *(work for work in records.find(Rollback, model=state.model) if not work.state.final),
        *(work for work in records.find(Maintenance, model=state.model) if not work.state.final),
    ]
    policy = show_policy(state)
    return {
        "model": state.model,
        "serving": {str(release.environment): dataclasses.asdict(release) for release in serving},
        "observed": {seen.id.split("/")[1]: dataclasses.asdict(seen) for seen in records.find(Observation)},
        "unfinished": [dataclasses.asdict(work) for work in unfinished],
        "leases": [dataclasses.asdict(lease) for lease in records.find(Lease) if lease.holder],
        "executor": {"heartbeat_at": seats[0].heartbeat_at if seats else None},
        "policy": {"digest": policy.get("digest"), "profile": (policy["policy"] or {}).get("profile")},
    }


def _with_steps(records: Records, kind: type[Any], id: str) -> dict[str, Any]:
    shown = dataclasses.asdict(records.get(kind, id))
    shown["steps"] = [dataclasses.asdict(line) for line in records.find(Progress, subject=id)]
    return shown


def _stream(read: Callable[[], dict[str, Any]]) -> StreamingResponse:
    first = read()

    async def events() -> AsyncIterator[str]:
        shown, sent = first, None
        while True:
            text = json.dumps(shown)
            if text != sent:
                yield f"data: {text}\n\n"
                sent = text
            if RunState(shown["state"]).final:
                return
            await asyncio.sleep(EVENTS_POLL_S)
            shown = await asyncio.to_thread(read)

    return StreamingResponse(events(), media_type="text/event-stream")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
