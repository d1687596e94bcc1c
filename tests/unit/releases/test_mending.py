"""Endpoints that nobody works on: a target that lost all serves what is recorded, left slots are emptied, no more."""

import pytest

from pipelines.domain.audit import open_intents
from pipelines.domain.records import Lease
from pipelines.domain.release import Endpoint, Phase, Release, Slot
from pipelines.errors import DeployFailed, LeaseHeld, TargetUnavailable
from pipelines.releases import leases
from pipelines.releases.leases import lease_id
from pipelines.releases.mending import mend_slots, mending
from tests.support.world.world import MODEL, PRODUCTION, STAGING, World

ENDPOINTS = [Endpoint(MODEL, environment) for environment in (PRODUCTION, STAGING)]


def mended(world: World) -> list[str]:
    return [trouble for endpoint in ENDPOINTS for trouble in mend_slots(world.services, endpoint)]


def left_in_trial(world: World) -> Release:
    """Leave a release in staging's trial slot, as an evaluation does whose target was away when it stopped."""
    release = Release("trial-e-1", MODEL, STAGING, "1", "sha256:left")
    world.target.start(release, Slot.TRIAL, epoch=world.target.highest_epoch(release.endpoint))
    return release


def test_a_new_target_serves_what_is_recorded_and_releases_go_on(world: World) -> None:
    version = world.register()
    world.promoted(version)
    world.target.forget()
    assert mended(world) == []
    for environment in (PRODUCTION, STAGING):
        world.target.observe(Endpoint(MODEL, environment), Slot.LIVE)
        assert world.serving(environment) == version
    told = [(e.action, e.phase) for e in world.records.audit_trail() if e.action == "revival"]
    assert told == [("revival", "intent"), ("revival", "outcome")] * 2
    assert [lease.holder for lease in world.records.find(Lease)] == [None, None]
    assert world.promoted(world.register()).error is None


def test_what_was_asked_for_is_never_overridden_nor_is_who_holds_the_lease_disturbed(world: World) -> None:
    world.promoted(world.register())
    before = len(list(world.records.audit_trail()))
    assert mended(world) == []
    world.target.forget()
    left_in_trial(world)
    with world.records.write() as transaction:
        for environment in (PRODUCTION, STAGING):
            lease = transaction.get(Lease, lease_id(MODEL, environment))
            transaction.change(lease, holder="p-99")
    assert mended(world) == []
    assert len(list(world.records.audit_trail())) == before
    assert world.target.observe(ENDPOINTS[1], Slot.TRIAL).phase is not Phase.EMPTY


def test_whoever_took_the_lease_after_the_look_is_not_disturbed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.promoted(world.register())
    world.target.forget()
    observe = world.target.observe

    def meanwhile(endpoint: Endpoint, slot: Slot) -> object:
        with world.records.write() as transaction:
            transaction.change(transaction.get(Lease, lease_id(MODEL, PRODUCTION)), holder="p-99")
        return observe(endpoint, slot)

    monkeypatch.setattr(world.target, "observe", meanwhile)
    with pytest.raises(LeaseHeld, match="p-99"):
        mend_slots(world.services, ENDPOINTS[0])
    assert world.target.highest_epoch(ENDPOINTS[0]) == 0


def test_a_target_is_filled_under_an_epoch_of_its_own(world: World) -> None:
    world.promoted(world.register())
    former = world.records.get(Lease, lease_id(MODEL, PRODUCTION)).epoch
    world.target.forget()
    mended(world)
    assert world.target.highest_epoch(ENDPOINTS[0]) == former + 1


def test_what_can_not_be_served_again_yet_stays_an_open_intent_once_and_is_served_later(world: World) -> None:
    world.promoted(world.register())
    world.target.forget()
    serving = world.services.serving(MODEL, PRODUCTION)
    assert serving is not None
    world.target.missing.add(serving.bundle_digest)
    for _ in range(2):
        with pytest.raises(DeployFailed):
            mend_slots(world.services, ENDPOINTS[0])
    told = [(e.action, e.phase) for e in world.records.audit_trail() if e.action == "revival"]
    assert told == [("revival", "intent")]
    assert world.records.get(Lease, lease_id(MODEL, PRODUCTION)).holder is None
    world.target.missing.clear()
    assert mended(world) == []
    assert open_intents(world.records.audit_trail()) == []


def test_a_slot_that_an_evaluation_left_is_emptied(world: World) -> None:
    world.evaluated(world.register())
    left_in_trial(world)
    assert mended(world) == []
    assert world.target.observe(ENDPOINTS[1], Slot.TRIAL).phase is Phase.EMPTY


def test_a_lease_that_mending_left_held_keeps_it_from_nothing(world: World) -> None:
    world.promoted(world.register())
    world.target.forget()
    leases.acquire(world.services, MODEL, PRODUCTION, mending(ENDPOINTS[0]))
    assert mended(world) == []
    assert world.records.get(Lease, lease_id(MODEL, PRODUCTION)).holder is None


def test_a_target_that_is_away_is_no_empty_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.promoted(world.register())
    world.target.forget()

    def away(endpoint: Endpoint, slot: Slot) -> object:
        raise TargetUnavailable("the supervisor does not answer")

    monkeypatch.setattr(world.target, "observe", away)
    with pytest.raises(TargetUnavailable):
        mended(world)
    assert world.target.highest_epoch(ENDPOINTS[0]) == 0


def tell_of_revival(world: World, phase: str) -> None:
    serving = world.services.serving(MODEL, PRODUCTION)
    assert serving is not None
    with world.records.write() as transaction:
        transaction.audit("executor", "revival", phase, subject=serving.id, detail={})


def begun_and_cut_off(world: World) -> None:
    """Let a revival be killed after the target was asked, before its outcome was written."""
    tell_of_revival(world, "intent")


def test_a_revival_that_was_cut_off_before_its_outcome_is_ended_by_the_next_look(world: World) -> None:
    world.promoted(world.register())
    begun_and_cut_off(world)
    assert mended(world) == []
    assert open_intents(world.records.audit_trail()) == []


def test_a_revival_that_never_came_about_ends_with_the_release_of_another_version(world: World) -> None:
    world.promoted(world.register())
    begun_and_cut_off(world)
    assert world.promoted(world.register()).error is None
    assert open_intents(world.records.audit_trail()) == []


def test_the_outcome_of_a_revival_is_written_once_also_when_another_writes_it_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.promoted(world.register())
    begun_and_cut_off(world)
    observe = world.target.observe

    def meanwhile(endpoint: Endpoint, slot: Slot) -> object:
        monkeypatch.undo()
        tell_of_revival(world, "outcome")
        return observe(endpoint, slot)

    monkeypatch.setattr(world.target, "observe", meanwhile)
    assert mend_slots(world.services, ENDPOINTS[0]) == []
    told = [entry.phase for entry in world.records.audit_trail() if entry.action == "revival"]
    assert told == ["intent", "outcome"]


def test_where_no_revival_was_begun_a_slot_is_looked_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.promoted(world.register())
    observe, looks = world.target.observe, list[Slot]()

    def counted(endpoint: Endpoint, slot: Slot) -> object:
        looks.append(slot)
        return observe(endpoint, slot)

    monkeypatch.setattr(world.target, "observe", counted)
    assert mend_slots(world.services, ENDPOINTS[0]) == []
    assert looks.count(Slot.LIVE) == 1


def test_a_recorded_release_that_did_not_come_up_again_is_asked_for_until_it_does(world: World) -> None:
    world.promoted(world.register())
    world.target.forget()
    serving = world.services.serving(MODEL, PRODUCTION)
    assert serving is not None
    world.target.broken[serving.bundle_digest] = ("the machine was too busy",)
    for _ in range(3):
        assert mend_slots(world.services, ENDPOINTS[0]) == []
        world.target.observe(ENDPOINTS[0], Slot.LIVE)
        assert world.target.observe(ENDPOINTS[0], Slot.LIVE).phase is Phase.FAILED
    # Nothing is ever removed of the audit log.
    told = [(e.action, e.phase) for e in world.records.audit_trail() if e.action == "revival"]
    assert told == [("revival", "intent"), ("revival", "outcome")]
    world.target.broken.clear()
    assert mend_slots(world.services, ENDPOINTS[0]) == []
    world.target.observe(ENDPOINTS[0], Slot.LIVE)
    assert world.serving() == serving.version
    assert open_intents(world.records.audit_trail()) == []


def test_another_release_that_did_not_come_up_is_left_alone(world: World) -> None:
    world.promoted(world.register())
    other = Release("r-99", MODEL, PRODUCTION, "9", "sha256:other")
    world.target.broken[other.bundle_digest] = ("it crashes",)
    world.target.start(other, Slot.LIVE, epoch=world.target.highest_epoch(ENDPOINTS[0]))
    world.target.observe(ENDPOINTS[0], Slot.LIVE)
    assert mend_slots(world.services, ENDPOINTS[0]) == []
    assert world.target.observe(ENDPOINTS[0], Slot.LIVE).wanted_id == other.id
