"""The offline gates: what they are measured with is put together here, and measured in one confined job.

Its answer counts only if it has a result of every gate that was to be measured, and of no other.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipelines.domain.description import Description
from pipelines.domain.figures import Figures
from pipelines.domain.policy import Policy
from pipelines.domain.texts import MAX_LINE_CHARS, one_line
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import JobFailed, NotServable
from pipelines.evaluation.gates.bundle.artifact_safety import ARTIFACT_SAFETY
from pipelines.evaluation.gates.offline.world import Offline, OpenedBundle
from pipelines.evaluation.gates.registry import AnyGate, Gates
from pipelines.evaluation.reports.figures import take_figures
from pipelines.packaging.confined import EVALUATION, PREDICTIONS, Form, Run, ask
from pipelines.packaging.file_digest import digest_of_file

_CANDIDATE, _CHAMPION = "candidate", "champion"
_OWN, _ACCEPTED = "own.parquet", "accepted.parquet"
_MOST_RESULTS = 400
_NAME = re.compile(r"[a-z0-9_]{1,60}(?:\.[a-z0-9_]{1,60})*")


class OfflineTask(Form):
    """Asks what the offline gates find of a candidate, by the limits of a policy."""

    kind: Literal["offline"] = "offline"
    bundle_digest: str = Field(description="The one that was pinned for the candidate.")
    policy: dict[str, Any]


class OfflineAnswer(Form):
    """The results of the gates, up to the first list of them that does not go on, and what plots are drawn from."""

    results: tuple[GateResult, ...] = Field(max_length=_MOST_RESULTS)
    figures: Figures | None = None


@dataclass(frozen=True)
class Measured:
    """What a confined job found of a version; without figures where none could be taken."""

    results: list[GateResult]
    figures: Figures | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what the journal keeps."""
        figures = self.figures.model_dump(mode="json") if self.figures else None
        return {"results": [result.as_dict() for result in self.results], "figures": figures}

    @classmethod
    def from_json(cls, body: dict[str, Any] | list[dict[str, Any]]) -> "Measured":
        """Rebuild what `as_json` wrote, or the list of results that the journal of a Slipway without figures has."""
        if isinstance(body, list):
            body = {"results": body, "figures": None}
        figures = Figures.model_validate(body["figures"]) if body["figures"] else None
        return cls([GateResult.from_dict(result) for result in body["results"]], figures)


@dataclass(frozen=True)
class Material:
    """What the offline gates are measured with, unread: the candidate's pinned digest, bundles, and files of rows.

    `evaluation` is the set in force, and `sets` are the further ones that the policy names. `own` is the one that the
    version brings and `accepted` the one that production was judged by, each None where that is the same, or none.
    `training_rows` and `champion_rows` say which rows the two were trained on, `reference` and `champion_reference` are
    rows of their trainings; None where a version has none.
    """

    digest: str
    candidate: Path
    champion: Path | None
    evaluation: Path
    predictions: Path | None
    own: Path | None = None
    accepted: Path | None = None
    training_rows: Path | None = None
    champion_rows: Path | None = None
    sets: Mapping[str, Path] = field(default_factory=dict)
    reference: Path | None = None
    champion_reference: Path | None = None

    @property
    def files(self) -> dict[str, Path]:
        """Every file by its name in the directory of the job."""
        optional = {
            PREDICTIONS: self.predictions,
            _OWN: self.own,
            _ACCEPTED: self.accepted,
            _rows_of(_CANDIDATE): self.training_rows,
            _rows_of(_CHAMPION): self.champion_rows,
            _reference_of(_CANDIDATE): self.reference,
            _reference_of(_CHAMPION): self.champion_reference,
        }
        optional |= {_set_file(name): path for name, path in self.sets.items()}
        named = {EVALUATION: self.evaluation} | {name: path for name, path in optional.items() if path}
        for name, bundle in ((_CANDIDATE, self.candidate), (_CHAMPION, self.champion)):
            if bundle:
                named |= {f"{name}/{path.name}": path for path in bundle.iterdir() if path.is_file()}
        return named


def ask_offline(run: Run, gates: Gates, policy: Policy, material: Material) -> Measured:
    """Have the offline gates measured; what meets the bounds of a job is an error of `artifact_safety`."""
    for gate in (*gates.of_the_bundle, *gates.of_the_model):
        gate.limits_of(policy)
    for gate in gates.on_named_sets:
        for name in gate.sets(policy):
            gate.limits_on(name, policy)
    task = OfflineTask(bundle_digest=material.digest, policy=policy.body)
    try:
        answer = ask(run, task, material.files, OfflineAnswer)
        return Measured(_checked(answer, gates, policy), answer.figures)
    except JobFailed as failure:
        # It also opens the champion: this says nothing certain of the candidate.
        name = ARTIFACT_SAFETY.name
        return Measured([GateResult(name, Verdict.ERROR, f"ERROR: {name}: the offline gates: {failure.message}")])


def measure_offline(task: OfflineTask, place: Path, gates: Gates) -> OfflineAnswer:
    """Measure, inside of a job, what needs no running service; no model is run before its bytes were judged."""
    world, policy = _world(task, place), Policy.read(task.policy)
    sets = {name: _named(task, place, name, named.digest) for name, named in policy.evaluation.sets.items()}
    results: list[GateResult] = []
    for gate in gates.of_the_bundle:
        results += gate.results(world, policy)
    if not all(result.goes_on for result in results):
        return OfflineAnswer(results=tuple(results))
    for gate in gates.of_the_model:
        results += gate.results(world, policy)
        for name in gate.sets(policy):
            results += _on_set(gate, name, sets[name], policy)
    return OfflineAnswer(results=tuple(results), figures=take_figures(world))


def _world(task: OfflineTask, place: Path) -> Offline:
    from pipelines.packaging.reading import read_predictions, refuse_missing_truth

    predictions = place / PREDICTIONS
    own, accepted = (_over(task, place, name) if (place / name).exists() else None for name in (_OWN, _ACCEPTED))
    in_force = _over(task, place, EVALUATION)
    refuse_missing_truth(in_force.snapshot)
    return replace(
        in_force,
        predictions=read_predictions(predictions) if predictions.exists() else None,
        own=own,
        accepted=accepted,
    )


def _named(task: OfflineTask, place: Path, name: str, digest: str) -> Offline | str:
    """Return the candidate over a set that the policy names; in words why not, where it is not that set, or is none."""
    from pipelines.packaging.reading import refuse_missing_truth

    file = place / _set_file(name)
    if not file.exists():
        return f"its file, {digest}, is missing"
    if (found := digest_of_file(file)) != digest:
        return f"digest mismatch, expected {digest} got {found}"
    over = _over(task, place, file.name)
    try:
        refuse_missing_truth(over.snapshot)
    except NotServable as refusal:
        return refusal.message
    return over


def _on_set(gate: AnyGate, name: str, over: Offline | str, policy: Policy) -> list[GateResult]:
    if isinstance(over, str):
        part = f"{gate.name}.{name}"
        return [GateResult(part, Verdict.ERROR, f"ERROR: {part}: the evaluation set can't be used: {over}")]
    return gate.results_on(name, over, policy)


def _over(task: OfflineTask, place: Path, evaluation: str) -> Offline:
    """Return the candidate, and the champion if there is one, over an evaluation set."""
    from pipelines.packaging.snapshot import read_snapshot
    from pipelines.packaging.training_rows import TrainingRows

    snapshot = read_snapshot(place / evaluation)

    def opened(name: str) -> OpenedBundle | None:
        folder, rows, reference = place / name, place / _rows_of(name), place / _reference_of(name)
        if not folder.exists():
            return None
        description = Description.read(json.loads((folder / "bundle.json").read_bytes()))
        trained_on = TrainingRows.read(rows).among(snapshot) if rows.exists() else None
        return OpenedBundle(
            folder, description, snapshot, trained_on, read_snapshot(reference) if reference.exists() else None
        )

    candidate = opened(_CANDIDATE)
    assert candidate is not None
    return Offline(task.bundle_digest, candidate, snapshot, champion=opened(_CHAMPION))


def _set_file(name: str) -> str:
    return f"set.{name}.parquet"


def _rows_of(name: str) -> str:
    return f"{name}.rows.parquet"


def _reference_of(name: str) -> str:
    return f"{name}.reference.parquet"


def _checked(answer: OfflineAnswer, gates: Gates, policy: Policy) -> list[GateResult]:
    """Return the results in words of one line; raise JobFailed unless they are of the gates that had to be measured."""
    results = [each.printable() for each in answer.results]
    wanted = {gate.name for gate in gates.of_the_bundle}
    if all(result.goes_on for result in results if result.gate in wanted):
        wanted |= {gate.name for gate in gates.of_the_model}
    found = {result.gate for result in results}
    for gate in (each for each in gates.on_named_sets if each.name in wanted):
        wanted |= {f"{gate.name} on {name}" for name in gate.sets(policy)}
        mine = {gate.set_of(result, policy) for result in results if result.gate == gate.name}
        found |= {f"{gate.name} on {name}" for name in mine if name}
    well_formed = all(_NAME.fullmatch(each.name) and len(each.message) <= MAX_LINE_CHARS for each in answer.results)
    if found != wanted or not well_formed:
        raise JobFailed(
            f"the confined job answered for {one_line(', '.join(sorted(found)), 300)}, and asked were {sorted(wanted)}",
            next="see the executor's log",
        )
    return results
