"""The evaluation sets of a model: who brought or added each, what the policy makes of it, and which reports name it."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipelines.domain.evalset import set_numbers, set_owner
from pipelines.domain.policy import NEWEST, Policy
from pipelines.domain.promotion import RunState
from pipelines.domain.records import AddedSet, Evaluation, PinnedVersion
from pipelines.domain.release import Environment
from pipelines.governance.standing import newest_policy, serving_release
from pipelines.ports import Records

# The reports of so many evaluations are looked at, the newest.
LOOKED_AT = 1000


@dataclass(frozen=True)
class ListedSet:
    """One set, with the version that brought it first, None where none has, and how it was added, None if it was not.

    `named` are its names in the policy in force. `in_force` says whether it judges: as the one that the policy names,
    or as production's where that is `newest`. `judged` are the evaluations with a report that names it.
    """

    number: int
    digest: str
    version: str | None
    added: AddedSet | None
    named: tuple[str, ...]
    in_force: bool
    judged: tuple[str, ...]


def list_sets(records: Records, model: str) -> list[ListedSet]:
    """Return the evaluation sets that versions of a model have brought, or people have added, the oldest first."""
    pins = records.find(PinnedVersion, model=model)
    added = {each.digest: each for each in records.find(AddedSet, model=model, state=RunState.DONE)}
    change = newest_policy(records, model)
    policy = Policy.read(change.body) if change else None
    judging = _judging(records, model, policy, pins)
    evaluations, _ = records.newest(Evaluation, LOOKED_AT, model=model)
    return [
        ListedSet(
            number,
            digest,
            set_owner(pins, digest),
            added.get(digest),
            tuple(name for name, each in policy.evaluation.sets.items() if each.digest == digest) if policy else (),
            digest == judging,
            tuple(each.id for each in evaluations if each.report and digest in sets_of(each.report)),
        )
        for digest, number in set_numbers(pins, list(added.values())).items()
    ]


def _judging(records: Records, model: str, policy: Policy | None, pins: list[PinnedVersion]) -> str | None:
    if policy and policy.evaluation.set != NEWEST:
        return policy.evaluation.set
    champion = serving_release(records, model, Environment.PRODUCTION)
    return next((pin.evalset_digest for pin in pins if champion and pin.version == champion.version), None)


def sets_of(report: Mapping[str, object]) -> set[object]:
    """Return the digests of the sets that a report names, which judged its version."""
    named = report.get("evalsets")
    return {report.get("evalset_digest"), *(named.values() if isinstance(named, Mapping) else ())}
