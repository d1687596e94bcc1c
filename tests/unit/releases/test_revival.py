"""After a restore the target is a new one: what is recorded is served again, and nothing else is touched."""

from dataclasses import replace

from pipelines.domain.records import Lease
from pipelines.domain.release import Endpoint, Slot
from pipelines.releases.leases import lease_id
from pipelines.releases.revival import serve_recorded
from tests.support.world.fakes import FakeTarget
from tests.support.world.world import MODEL, PRODUCTION, STAGING, World


def test_a_new_target_serves_what_is_recorded_and_releases_go_on(world: World) -> None:
    version = world.register()
    world.promoted(version)
    fresh = FakeTarget(replicas=2)
    world.services = replace(world.services, target=fresh)
    world.target = fresh
    serve_recorded(world.services)
    for environment in (PRODUCTION, STAGING):
        fresh.observe(Endpoint(MODEL, environment), Slot.LIVE)
        assert world.serving(environment) == version
    told = [(e.action, e.phase) for e in world.records.audit_trail() if e.action == "revival"]
    assert told == [("revival", "intent"), ("revival", "outcome")] * 2


def test_what_a_target_was_asked_for_is_never_overridden_nor_what_holds_the_lease(world: World) -> None:
    world.promoted(world.register())
    before = len(list(world.records.audit_trail()))
    serve_recorded(world.services)
    world.services = replace(world.services, target=FakeTarget())
    with world.records.write() as transaction:
        for environment in (PRODUCTION, STAGING):
            lease = transaction.get(Lease, lease_id(MODEL, environment))
            transaction.change(lease, holder="p-99")
    serve_recorded(world.services)
    assert len(list(world.records.audit_trail())) == before
