"""/audit: the trail of what was asked for and done, and its proof."""

from typing import Annotated

from fastapi import Query
from pydantic import Field, JsonValue

from pipelines.api.guard import guarded_router
from pipelines.api.requests import Reading
from pipelines.api.responses import ResponseBody, Time
from pipelines.domain import audit

router = guarded_router("audit")
MOST_ENTRIES = 10_000


class AuditEntry(ResponseBody):
    """One audited fact; its hash covers everything else in it, the hash before included."""

    seq: int = Field(description="Counts from 1 without a gap.")
    at: Time
    actor: str = Field(description="A person, or `executor`.")
    action: str
    phase: str = Field(description="`intent` before something is done, `outcome` after it.")
    subject: str = Field(description="Id of what it is about.")
    detail: dict[str, JsonValue] = Field(description="What else belongs to the action.")
    prev_hash: str = Field(description="SHA-256 of the entry before, in hexadecimal digits.")
    hash: str = Field(description="SHA-256 of this entry, in hexadecimal digits.")


class AuditTrail(ResponseBody):
    """Entries of the audit trail, oldest first."""

    entries: list[AuditEntry]


class AuditVerification(ResponseBody):
    """What a verification of the whole chain found."""

    valid: bool
    entries: int = Field(description="How many entries hold.")
    first_bad: int | None = Field(description="`seq` of the first entry that does not hold.")
    detail: str


@router.get("")
def show_audit(
    state: Reading,
    limit: Annotated[int, Query(description=f"How many entries at most, from 1 to {MOST_ENTRIES:,}.")] = 1000,
) -> AuditTrail:
    """Return the last entries of the audit trail."""
    entries = state.records.newest_audit(min(max(1, limit), MOST_ENTRIES))
    return AuditTrail(entries=[AuditEntry.model_validate(entry) for entry in entries])


@router.get("/verification")
def verify_audit(state: Reading) -> AuditVerification:
    """Verify the audit chain against itself and against its checkpoints outside the database."""
    # Checkpoints first: an entry written meanwhile then has no checkpoint yet, never the reverse.
    checkpoints = state.checkpoints.checkpoints()
    return AuditVerification.model_validate(audit.prove(state.records.audit_trail(), checkpoints))
