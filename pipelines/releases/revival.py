"""Has a target that serves nothing serve what is recorded: it is a new one, as after a restore.

What was asked of a target is never overridden: only a live slot of which nothing was ever asked is filled.
"""

import logging

from pipelines.domain.promotion import ReleaseState
from pipelines.domain.records import Lease, ReleaseRecord
from pipelines.domain.release import Slot
from pipelines.errors import SlipwayError
from pipelines.releases.leases import lease_id
from pipelines.releases.services import Services

log = logging.getLogger("slipway.releases")


def serve_recorded(services: Services) -> None:
    """Begin to serve each recorded release whose live slot knows of none; what fails is logged, and shown as drift."""
    for recorded in services.records.find(ReleaseRecord, state=ReleaseState.SERVING):
        try:
            _serve_again(services, recorded)
        except SlipwayError as error:
            log.error("%s is not served again: %s", recorded.id, error.message)


def _serve_again(services: Services, recorded: ReleaseRecord) -> None:
    endpoint, release = recorded.release.endpoint, recorded.release
    (lease,) = services.records.find(Lease, id=lease_id(endpoint.model, endpoint.environment))
    state = services.target.observe(endpoint, Slot.LIVE)
    # Who holds the lease brings its own release, or undoes it, which comes to the same.
    if lease.holder or state.wanted_id or state.release:
        return
    detail = {"version": release.version, "bundle": release.bundle_digest, "epoch": lease.epoch}
    with services.records.write() as transaction:
        transaction.audit("executor", "revival", "intent", subject=release.id, detail=detail)
    services.target.prepare(endpoint, release.bundle_digest)
    services.target.restore(endpoint, release, epoch=lease.epoch)
    with services.records.write() as transaction:
        transaction.audit("executor", "revival", "outcome", subject=release.id, detail=detail)
