"""The offline gates: what they are measured with is put together here, and measured in one confined job.

Its answer counts only if it has a result of every gate that was to be measured, and of no other.
"""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipelines.domain.description import Description
from pipelines.domain.policy import Policy
from pipelines.domain.texts import MAX_LINE_CHARS, one_line
from pipelines.domain.verdict import GateResult, Verdict
from pipelines.errors import JobFailed
from pipelines.evaluation.gates.offline.artifact_safety import ARTIFACT_SAFETY
from pipelines.evaluation.gates.offline.world import Offline, OpenedBundle
from pipelines.evaluation.gates.registry import Gates
from pipelines.packaging.confined import EVALUATION, PREDICTIONS, Form, Run, ask

_CANDIDATE, _CHAMPION = "candidate", "champion"
_MOST_RESULTS = 200
_NAME = re.compile(r"[a-z0-9_]{1,60}(?:\.[a-z0-9_]{1,60})*")


class OfflineTask(Form):
    """Asks what the offline gates find of a candidate, by the limits of a policy."""

    kind: Literal["offline"] = "offline"
    bundle_digest: str = Field(description="The one that was pinned for the candidate.")
    policy: dict[str, Any]


class OfflineAnswer(Form):
    """The results of the gates, up to the first list of them that does not go on."""

    results: tuple[GateResult, ...] = Field(max_length=_MOST_RESULTS)


@dataclass(frozen=True)
class Material:
    """What the offline gates are measured with, unread: the candidate's pinned digest, bundles, and files of rows."""

    digest: str
    candidate: Path
    champion: Path | None
    evaluation: Path
    predictions: Path | None

    @property
    def files(self) -> dict[str, Path]:
        """Every file by its name in the directory of the job."""
        named = {EVALUATION: self.evaluation} | ({PREDICTIONS: self.predictions} if self.predictions else {})
        for name, bundle in ((_CANDIDATE, self.candidate), (_CHAMPION, self.champion)):
            if bundle:
                named |= {f"{name}/{path.name}": path for path in bundle.iterdir() if path.is_file()}
        return named


def ask_offline(run: Run, gates: Gates, policy: Policy, material: Material) -> list[GateResult]:
    """Have the offline gates measured; what meets the bounds of a job is an error of `artifact_safety`."""
    for gate in (*gates.of_the_bundle, *gates.of_the_model):
        gate.limits_of(policy)
    task = OfflineTask(bundle_digest=material.digest, policy=policy.body)
    try:
        answer = ask(run, task, material.files, OfflineAnswer)
        return _checked(answer, gates)
    except JobFailed as failure:
        # It also opens the champion: this says nothing certain of the candidate.
        name = ARTIFACT_SAFETY.name
        return [GateResult(name, Verdict.ERROR, f"ERROR: {name}: the offline gates: {failure.message}")]


def measure_offline(task: OfflineTask, place: Path, gates: Gates) -> OfflineAnswer:
    """Measure, inside of a job, what needs no running service; no model is run before its bytes were judged."""
    world, policy = _world(task, place), Policy.read(task.policy)
    results: list[GateResult] = []
    for each in (gates.of_the_bundle, gates.of_the_model):
        for gate in each:
            results += gate.results(world, policy)
        if not all(result.verdict.goes_on for result in results):
            break
    return OfflineAnswer(results=tuple(results))


def _world(task: OfflineTask, place: Path) -> Offline:
    from pipelines.packaging.reading import read_predictions
    from pipelines.packaging.snapshot import read_snapshot

    snapshot = read_snapshot(place / EVALUATION)

    def opened(folder: Path) -> OpenedBundle | None:
        if not folder.exists():
            return None
        return OpenedBundle(folder, Description.read(json.loads((folder / "bundle.json").read_bytes())), snapshot)

    candidate = opened(place / _CANDIDATE)
    assert candidate is not None
    predictions = place / PREDICTIONS
    return Offline(
        digest=task.bundle_digest,
        candidate=candidate,
        snapshot=snapshot,
        predictions=read_predictions(predictions) if predictions.exists() else None,
        champion=opened(place / _CHAMPION),
    )


def _checked(answer: OfflineAnswer, gates: Gates) -> list[GateResult]:
    """Return the results in words of one line; raise JobFailed unless they are of the gates that had to be measured."""
    results = [replace(each, message=one_line(each.message)) for each in answer.results]
    wanted = {gate.name for gate in gates.of_the_bundle}
    if all(result.verdict.goes_on for result in results if result.gate in wanted):
        wanted |= {gate.name for gate in gates.of_the_model}
    found = {result.gate for result in results}
    well_formed = all(_NAME.fullmatch(each.name) and len(each.message) <= MAX_LINE_CHARS for each in answer.results)
    if found != wanted or not well_formed:
        raise JobFailed(
            f"the confined job answered for {one_line(', '.join(sorted(found)), 300)}, and asked were {sorted(wanted)}",
            next="see the executor's log",
        )
    return results
