"""/archives: removing what nothing needs any more, or a look at what that is."""

from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from pipelines.api.guard import guarded_router
from pipelines.api.requests import Person, Reading, RequestBody, State
from pipelines.api.responses import Asked, PersonName, Refusal, ResponseBody
from pipelines.api.work import Step, events_of, follow_work
from pipelines.domain.promotion import RunState
from pipelines.governance.archiving import archiving, ask_archiving
from pipelines.ports import Records

router = guarded_router("archives")


class ArchiveRequest(RequestBody):
    """Asks for what nothing needs any more to be removed."""

    dry_run: bool = Field(False, description="Only say what would be removed.")


class ArchiveFound(ResponseBody):
    """What nothing needs any more."""

    bundles: list[str] = Field(description="Digests.")
    evaluation_sets: list[str] = Field(
        description="Files of evaluation sets, and of rows that versions were trained on."
    )
    work: list[str] = Field(description="Directories of evaluations.")
    journal: list[str] = Field(description="Ids of work whose journal is not needed.")
    progress: int = Field(description="How many lines of progress.")


class ArchiveShown(ResponseBody):
    """What somebody asked for, and what the executor found."""

    id: str
    requested_by: PersonName
    dry_run: bool
    state: RunState
    found: ArchiveFound | None
    error: Refusal | None = Field(description="Why it was stopped.")
    steps: list[Step]


@router.post("", status_code=202)
def ask_archive(body: ArchiveRequest, state: State, person: Person) -> Asked:
    """Have the executor remove what nothing needs any more."""
    seq = ask_archiving(state.records, person=person, model=body.model_of(state), dry_run=body.dry_run)
    return Asked(id=str(seq))


@router.get("/{id}")
def show_archive(id: str, state: Reading) -> ArchiveShown:
    """Return what somebody asked for, and what was found once the executor has looked."""
    return _shown(state.records, id)


@router.get("/{id}/events", **events_of(ArchiveShown))
def follow_archive(id: str, request: Request, state: Reading) -> StreamingResponse:
    """Stream it as server-sent events until the executor has looked."""
    return follow_work(request, state, lambda: _shown(state.records, id))


def _shown(records: Records, id: str) -> ArchiveShown:
    asked = archiving(records, id)
    state = RunState.STOPPED if asked.error else RunState.DONE if asked.found else RunState.REQUESTED
    shown = {name: value for name, value in vars(asked).items() if name != "seq"}
    return ArchiveShown.model_validate({**shown, "id": str(asked.seq), "state": state, "steps": []})
