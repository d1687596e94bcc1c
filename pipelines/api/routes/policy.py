"""/policy: the limits in force, and changing them."""

import json
from typing import Annotated, Any

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import AfterValidator, Field, JsonValue

from pipelines import commands
from pipelines.api.guard import guarded_router
from pipelines.api.requests import Model, Person, Reading, RequestBody, State, now
from pipelines.api.responses import Asked, Digest, PersonName, Refusal, ResponseBody, Time
from pipelines.api.work import Step, events_of, follow_work, shown_work
from pipelines.domain.promotion import RunState
from pipelines.domain.records import PolicyChange
from pipelines.evaluation.gates.registry import GATES
from pipelines.governance.standing import newest_policy
from pipelines.ports import Records

router = guarded_router("policy")

KeptPolicy = Annotated[
    dict[str, JsonValue],
    Field(description="The policy as it was asked for; docs/reference/policy.schema.json is the form of today's."),
]


def _encodable(policy: dict[str, Any]) -> dict[str, Any]:
    # Half a surrogate pair raises a ValueError here; no digest could be made of it.
    json.dumps(policy, ensure_ascii=False).encode()
    return policy


class PolicyRequest(RequestBody):
    """Asks for a policy to be put in force."""

    policy: Annotated[dict[str, Any], AfterValidator(_encodable)] = Field(
        description="The policy, in the form of docs/reference/policy.schema.json."
    )


class AskedPolicy(Asked):
    """A change of the policy that was written down."""

    digest: Digest


class NoPolicy(ResponseBody):
    """No policy is in force yet."""

    policy: None


class PolicyInForce(ResponseBody):
    """The policy that versions are judged by."""

    policy: KeptPolicy
    digest: Digest
    applied_by: PersonName
    at: Time | None = Field(description="Since when it is in force.")


class PolicyChangeShown(ResponseBody):
    """A change of the policy with its steps so far."""

    id: str
    digest: Digest
    body: KeptPolicy
    applied_by: PersonName
    created_at: Time
    state: RunState
    error: Refusal | None = Field(description="Why it was stopped.")
    ended_at: Time | None
    model: str | None = Field(description="Whose policy it is; null for one that holds for any model.")
    steps: list[Step]


@router.post("", status_code=202)
def apply_policy(body: PolicyRequest, state: State, person: Person) -> AskedPolicy:
    """Put a policy in force."""
    change = commands.request_policy(
        state.records,
        person=person,
        model=body.model_of(state),
        policy=GATES.read_policy(body.policy),
        now=now(),
        people=state.tokens,
    )
    return AskedPolicy(id=change.id, digest=change.digest)


@router.get("")
def show_policy(state: Reading, model: Model) -> PolicyInForce | NoPolicy:
    """Return the policy in force and who applied it; `policy` is null before the first."""
    return policy_in_force(state.records, model)


@router.get("/{id}")
def show_policy_change(id: str, state: Reading) -> PolicyChangeShown:
    """Return one asked-for change of the policy."""
    return _shown(state.records, id)


@router.get("/{id}/events", **events_of(PolicyChangeShown))
def follow_policy_change(id: str, request: Request, state: Reading) -> StreamingResponse:
    """Stream a change of the policy as server-sent events until it has ended."""
    return follow_work(request, state, lambda: _shown(state.records, id))


def policy_in_force(records: Records, model: str) -> PolicyInForce | NoPolicy:
    """Return the policy in force for a model as it is shown."""
    newest = newest_policy(records, model)
    if not newest:
        return NoPolicy(policy=None)
    return PolicyInForce(policy=newest.body, digest=newest.digest, applied_by=newest.applied_by, at=newest.ended_at)


def _shown(records: Records, id: str) -> PolicyChangeShown:
    return shown_work(PolicyChangeShown, records.get(PolicyChange, id), records)
