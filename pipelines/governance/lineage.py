"""Lineage both ways: what a version comes of and what came of it, and which versions a hash or a commit led to.

A version's provenance is told as an event when it is pinned: its bundle may be removed, and lies where the executor
alone can read it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.domain.events import Event, EventKind
from pipelines.domain.lineage import FEWEST_DIGITS, Origin, OriginKind, meant, origins_of
from pipelines.domain.names import is_version
from pipelines.domain.records import Approval, Evaluation, PinnedVersion, Promotion, ReleaseRecord
from pipelines.domain.release import RunsFrom
from pipelines.errors import UsageError
from pipelines.governance.evalsets import LOOKED_AT, sets_of
from pipelines.ports import Records, Transaction


@dataclass(frozen=True)
class Traced:
    """A pinned version, what its bundle says of where it comes from, and its releases with what they ran from.

    `provenance` is None where the bundle was removed before that was kept. `judged_by` are the digests of the sets that
    its reports name.
    """

    pin: PinnedVersion
    provenance: dict[str, Any] | None
    ran_from: Mapping[str, RunsFrom] = field(default_factory=dict)
    judged_by: Collection[str] = ()

    @property
    def origins(self) -> list[Origin]:
        """All that the version comes of, runs from, and was judged by."""
        found = [Origin(OriginKind.BUNDLE, self.pin.bundle_digest)]
        found += origins_of(self.provenance) if self.provenance else []
        # The set that a version without one of its own was first judged by is kept with its pin.
        found.append(Origin(OriginKind.EVALUATION_SET, self.pin.evalset_digest))
        brought = {each.value for each in found if each.kind is OriginKind.EVALUATION_SET}
        found += [Origin(OriginKind.JUDGED_BY, digest) for digest in self.judged_by if digest not in brought]
        for images in self.ran_from.values():
            found.append(Origin(OriginKind.IMAGE, images.image))
            found += [Origin(OriginKind.APP_IMAGE, images.app_image)] if images.app_image else []
        return sorted(set(found))


@dataclass(frozen=True)
class History:
    """What became of a version: its evaluations, what people decided, and its releases, each oldest first."""

    evaluations: list[Evaluation]
    approvals: list[Approval]
    releases: list[ReleaseRecord]


@dataclass(frozen=True)
class Found:
    """What was asked for: `origins` are empty where it was a version's number, of which there is `history`."""

    origins: list[Origin]
    versions: list[Traced]
    history: History | None = None


def trace(transaction: Transaction, pin: PinnedVersion, provenance: dict[str, Any]) -> None:
    """Keep where a pinned version comes from, once."""
    if not transaction.events(subject=pin.id, kinds=[EventKind.VERSION_TRACED], limit=1):
        transaction.emit(EventKind.VERSION_TRACED, subject=pin.id, model=pin.model, detail=provenance)


def untraced(records: Records) -> list[PinnedVersion]:
    """Return the pinned versions whose provenance is not kept."""
    traced = {event.subject for event in records.events(kinds=[EventKind.VERSION_TRACED])}
    return [pin for pin in records.find(PinnedVersion) if pin.id not in traced]


def find_lineage(records: Records, text: str, *, model: str) -> Found:
    """Return the lineage of a version of `model`, or the versions of any model that a hash, commit or image led to.

    Those are the versions that come of it, run from it, or were judged by it, as the newest reports say. Raises
    UsageError for what is unknown here, or means several.
    """
    if is_version(text):
        pin = next((each for each in records.find(PinnedVersion, id=f"{model}/{text}")), None)
        if pin is not None:
            (traced,) = _traced(records, [pin], model=model, version=text)
            return Found([], [traced], _history(records, model, text))
        if len(text) < FEWEST_DIGITS:
            raise UsageError(
                f"version {text} of {model} was never measured", next=f'"make deploy-staging VERSION={text}"'
            )
    known = _traced(records, records.find(PinnedVersion))
    origins = meant(text, (origin for each in known for origin in each.origins))
    return Found(origins, [each for each in known if not set(origins).isdisjoint(each.origins)])


def _traced(records: Records, pins: list[PinnedVersion], **evaluated: str) -> list[Traced]:
    """Return the lineage of pins, judged by what evaluations whose fields equal `evaluated` say."""
    told = {event.subject: event.detail for event in records.events(kinds=[EventKind.VERSION_TRACED])}
    images: dict[str, dict[str, RunsFrom]] = {}
    for event in records.events(kinds=[EventKind.VERSION_RELEASED]):
        if found := _images(event):
            images.setdefault(f"{event.model}/{event.detail['version']}", {})[event.subject] = found
    judged: dict[str, set[str]] = {}
    for each in records.newest(Evaluation, LOOKED_AT, **evaluated)[0]:
        named = sets_of(each.report) if each.report else ()
        judged.setdefault(f"{each.model}/{each.version}", set()).update(map(str, filter(None, named)))
    return [Traced(pin, told.get(pin.id), images.get(pin.id, {}), judged.get(pin.id, ())) for pin in pins]


def _images(event: Event) -> RunsFrom | None:
    image = event.detail.get("image")
    return RunsFrom(image, event.detail.get("app_image")) if image else None


def _history(records: Records, model: str, version: str) -> History:
    promotions = records.find(Promotion, model=model, version=version)
    return History(
        records.find(Evaluation, model=model, version=version),
        [given for each in promotions for given in records.find(Approval, promotion_id=each.id)],
        records.find(ReleaseRecord, model=model, version=version),
    )
