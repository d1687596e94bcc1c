"""/versions: what is registered."""

from typing import Annotated

from fastapi import Query
from pydantic import Field

from pipelines.api.guard import guarded_router
from pipelines.api.requests import Model, Reading
from pipelines.api.responses import Digest, ModelName, ResponseBody, Version, refusals
from pipelines.domain.names import checked_version
from pipelines.domain.records import Evaluation
from pipelines.domain.report import Report
from pipelines.errors import UsageError
from pipelines.ports import Records

router = guarded_router("versions")
# Evaluations carry their reports, so few are read at once.
_LOOKED_AT = 10


class RegisteredVersion(ResponseBody):
    """A version as the model registry knows it."""

    version: Version
    run_id: str | None = Field(description="The training run; null for a version that came from elsewhere.")
    tags: dict[str, str] = Field(description="Tags by name, those of Slipway among them.")
    aliases: list[str] = Field(description="Aliases that point at this version, sorted.")
    cut: bool = Field(description="Whether it has more tags, or longer ones, than are shown.")


class Versions(ResponseBody):
    """Registered versions, newest first."""

    model: ModelName
    versions: list[RegisteredVersion]
    more: bool = Field(description="Whether there are older ones: ask again with `before`.")


class VersionReport(ResponseBody):
    """The report of a version that was written last."""

    evaluation_id: str = Field(description="The evaluation that measured it.")
    report: Report
    report_digest: Digest


@router.get("")
def list_versions(
    state: Reading,
    model: Model,
    before: Annotated[
        int | None, Query(ge=1, le=999_999_999, description="Of versions older than this one only.")
    ] = None,
) -> Versions:
    """List the registered versions, newest first, up to a thousand."""
    found, more = state.versions.versions(model, before)
    return Versions(model=model, versions=[RegisteredVersion.model_validate(row) for row in found], more=more)


@router.get("/{version}/report", responses=refusals(404))
def show_report(version: str, state: Reading, model: Model) -> VersionReport:
    """Return the report of a version that was written last."""
    number = checked_version(version)
    evaluation = _last_reported(state.records, model, number)
    if evaluation is None:
        state.versions.resolve(model, number)
        raise UsageError(
            f"version {number} of {model} has no report yet", next=f'measure it: "make deploy-staging VERSION={number}"'
        )
    return VersionReport(
        evaluation_id=evaluation.id,
        report=Report.read(evaluation.report or {}),
        report_digest=evaluation.report_digest or "",
    )


def _last_reported(records: Records, model: str, version: str) -> Evaluation | None:
    """Return the newest evaluation of a version that has a report, None where none has."""
    before, more = None, True
    while more:
        found, more = records.newest(Evaluation, _LOOKED_AT, before=before, model=model, version=version)
        for evaluation in reversed(found):
            if evaluation.report is not None:
                return evaluation
        before = found[0].id if found else None
    return None
