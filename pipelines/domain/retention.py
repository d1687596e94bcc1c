"""Which bundles are kept: whatever a release, a rollback, a promotion or an evaluation may still need, and what is new.

Records are never removed, nor audit entries: only files that nothing refers to any more as something to serve or judge.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pipelines.domain.evalset import passed
from pipelines.domain.policy import Retention
from pipelines.domain.promotion import PastRelease, ReleaseState, rollback_target
from pipelines.domain.records import Evaluation, PinnedVersion, Promotion, ReleaseRecord
from pipelines.errors import NoRollbackTarget

_HELD = (ReleaseState.STARTING, ReleaseState.SERVING)


@dataclass(frozen=True)
class History:
    """What has happened to bundles, each kind of record from the oldest to the newest."""

    pins: Sequence[PinnedVersion]
    evaluations: Sequence[Evaluation]
    promotions: Sequence[Promotion]
    releases: Sequence[ReleaseRecord]

    def of(self, model: str) -> "History":
        """Return what has happened to the bundles of one model."""
        return History(
            [each for each in self.pins if each.model == model],
            [each for each in self.evaluations if each.model == model],
            [each for each in self.promotions if each.model == model],
            [each for each in self.releases if each.model == model],
        )

    @property
    def known(self) -> set[str]:
        """Every bundle that a record names."""
        named = [pin.bundle_digest for pin in self.pins]
        named += [each.bundle_digest for each in self.releases]
        return {*named, *(each.bundle_digest for each in self.evaluations if each.bundle_digest)}

    @property
    def unfinished(self) -> set[str]:
        """The ids of the evaluations that are not over, or whose promotion is not."""
        mine = {each.id for each in self.evaluations if not each.state.final}
        return mine | {each.evaluation_id for each in self.promotions if not each.state.final}


def kept_bundles(history: History, retention: Retention, since: str) -> set[str]:
    """Return the digests of the bundles to keep: those that are needed, and those that were in use after `since`."""
    pinned = {pin.id: pin.bundle_digest for pin in history.pins}
    kept = {pin.bundle_digest for pin in history.pins if pin.pinned_at >= since}
    kept |= {pin.bundle_digest for pin in history.pins if pin.version in retention.keep_versions}
    unfinished = history.unfinished
    for evaluation in history.evaluations:
        if evaluation.id in unfinished or (evaluation.ended_at or evaluation.created_at) >= since:
            kept.add(evaluation.bundle_digest or "")
            kept.add(pinned.get(f"{evaluation.model}/{evaluation.version}", ""))
    for release in history.releases:
        if release.state in _HELD or (release.ended_at or release.created_at) >= since:
            kept.add(release.bundle_digest)
    for endpoint in {(release.model, release.environment) for release in history.releases}:
        mine = [release for release in history.releases if (release.model, release.environment) == endpoint]
        kept |= set(_ways_back(mine, retention.rollbacks))
    return kept - {""}


def kept_evaluation_sets(history: History, bundles: Iterable[str]) -> set[str]:
    """Return the digests of the evaluation sets by which kept bundles, and versions without one, are judged."""
    held = set(bundles)
    kept = {pin.evalset_digest for pin in history.pins if pin.bundle_digest in held}
    for model in {pin.model for pin in history.pins}:
        sets = {pin.version: pin.evalset_digest for pin in history.pins if pin.model == model}
        # The champion's is that of a bundle that is held.
        kept |= {sets[version] for version in passed(_of(model, history.evaluations))[:1] if version in sets}
    return kept


def _of(model: str, evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    return [each for each in evaluations if each.model == model]


def _ways_back(releases: Sequence[ReleaseRecord], count: int) -> list[str]:
    """Return the bundles that so many rollbacks in a row would go back to."""
    past = [PastRelease(r.id, r.version, r.bundle_digest, r.state, r.restores) for r in releases]
    found: list[str] = []
    try:
        for number in range(count):
            target = rollback_target(past)
            found.append(target.bundle_digest)
            # As a rollback leaves it: what served is none to go back to any more.
            left = [replace(r, state=ReleaseState.ROLLED_BACK) if r.state is ReleaseState.SERVING else r for r in past]
            again = replace(target, id=f"rollback {number}", state=ReleaseState.SERVING, restores=target.id)
            past = [*left, again]
    except NoRollbackTarget:
        pass
    return found
