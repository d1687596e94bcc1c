"""What a slot's service is told to serve, as its labels keep it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from pipelines.domain.release import Environment, Release

_RELEASE, _EPOCH, _SINCE = "slipway.release", "slipway.epoch", "slipway.since"
_WANTED, _SERVED, _SETTLED = "slipway.wanted", "slipway.served", "slipway.settled"
_OURS = (_RELEASE, _EPOCH, _SINCE, _WANTED, _SERVED, _SETTLED)


@dataclass(frozen=True)
class Deployed:
    """A release and the image that serves it, `name@sha256:<hex>` as engines pull it."""

    release: Release
    image: str


@dataclass(frozen=True)
class ServiceOrder:
    """The order that a slot was given last.

    `wanted` is what was asked for, `served` what the slot had last settled on before. `epoch` is the highest
    that was seen. `since` is the cluster's log index at which `wanted` was asked for: it orders an order and
    the failures of tasks without any clock. `settled` remembers that `wanted` has settled, because Swarm
    forgets how a roll ended as soon as the service changes again.
    """

    wanted: Deployed | None = None
    served: Deployed | None = None
    epoch: int = 0
    since: int = 0
    settled: bool = False

    @property
    def wanted_id(self) -> str | None:
        """The id of the release asked for."""
        return self.wanted.release.id if self.wanted else None

    def image_of(self, release: Release) -> str | None:
        """Return the image that a release of this record runs on, None for another release."""
        for deployed in (self.wanted, self.served):
            if deployed and deployed.release == release:
                return deployed.image
        return None

    def as_labels(self) -> dict[str, str]:
        """Return the labels that `from_labels` reads; `slipway.release` is for people."""
        labels = {_EPOCH: str(self.epoch), _SINCE: str(self.since)}
        if self.wanted:
            labels |= {_RELEASE: self.wanted.release.id, _WANTED: _encode(self.wanted)}
        if self.served:
            labels[_SERVED] = _encode(self.served)
        if self.settled:
            labels[_SETTLED] = "yes"
        return labels

    @classmethod
    def from_labels(cls, labels: Mapping[str, str]) -> Self:
        """Read a service's labels; without any it was never told to serve a release."""
        return cls(
            wanted=_decode(labels.get(_WANTED)),
            served=_decode(labels.get(_SERVED)),
            epoch=int(labels.get(_EPOCH, 0)),
            since=int(labels.get(_SINCE, 0)),
            settled=_SETTLED in labels,
        )


def with_record(labels: Mapping[str, str], record: ServiceOrder) -> dict[str, str]:
    """Return the labels with `record` in place of the former one, and all others kept."""
    return {name: text for name, text in labels.items() if name not in _OURS} | record.as_labels()


def _encode(deployed: Deployed) -> str:
    return json.dumps(asdict(deployed), sort_keys=True)


def _decode(text: str | None) -> Deployed | None:
    if text is None:
        return None
    body: dict[str, Any] = json.loads(text)
    release = body["release"]
    return Deployed(Release(**{**release, "environment": Environment(release["environment"])}), body["image"])
