"""When a slot that is told what to serve begins anew, and when it has nothing to do."""

import asyncio
import resource
import socket
from pathlib import Path

import pytest

from pipelines.adapters.local.supervisor.home import SlotRecord, SupervisorHome
from pipelines.adapters.local.supervisor.replica import MEMORY_BYTES, Site
from pipelines.adapters.local.supervisor.slot import Rules, SlotSupervisor
from pipelines.adapters.local.supervisor.sockets import claim_kept, claim_live
from pipelines.adapters.local.supervisor.wire import Deployment
from pipelines.domain.release import Endpoint, Environment, Phase, Release, Slot, SlotState

ENDPOINT = Endpoint("toy-model", Environment.STAGING)


def deployment(id: str) -> Deployment:
    return Deployment(Release(id, ENDPOINT.model, ENDPOINT.environment, "1", "sha256:b"), Path("bundle"))


def told(home: Path, record: SlotRecord, wanted: Deployment | None) -> SlotRecord:
    """Return what a slot of this record records when it is told what to serve, before anything was spawned."""

    async def tell() -> SlotRecord:
        site = Site(SupervisorHome(home, ENDPOINT), Slot.TRIAL, claim_kept(0), changed=lambda: None)
        slot = SlotSupervisor(site, Rules(replicas=1, start_deadline_s=1, silence_s=1), record)
        slot.start(wanted)
        recorded = slot.record
        await slot.shut_down()
        return recorded

    return asyncio.run(tell())


@pytest.mark.parametrize("wanted", [deployment("r1"), None])
def test_what_failed_to_start_is_started_again_when_it_is_asked_for_again(
    tmp_path: Path, wanted: Deployment | None
) -> None:
    failed = SlotRecord(wanted=wanted, phase=Phase.FAILED, failure="exited with status 3", last_log=("no bundle",))
    assert told(tmp_path, failed, wanted) == SlotRecord(wanted=wanted, phase=Phase.STARTING)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.SETTLED])
def test_what_is_starting_or_served_is_not_started_again(tmp_path: Path, phase: Phase) -> None:
    record = SlotRecord(serving=deployment("r1"), wanted=deployment("r1"), phase=phase)
    assert told(tmp_path, record, deployment("r1")) is record


def test_another_release_is_started_while_the_old_one_goes_on_serving(tmp_path: Path) -> None:
    old, new = deployment("r1"), deployment("r2")
    record = SlotRecord(serving=old, wanted=old, phase=Phase.SETTLED)
    assert told(tmp_path, record, new) == SlotRecord(serving=old, wanted=new, phase=Phase.STARTING)


def test_a_replica_that_the_machine_can_not_start_is_no_failure_of_its_release(tmp_path: Path) -> None:
    async def fail() -> SlotState:
        home = SupervisorHome(tmp_path, ENDPOINT)
        home.socket_path.parent.rmdir()
        site = Site(home, Slot.TRIAL, claim_live(ENDPOINT.environment, 0), changed=lambda: None)
        slot = SlotSupervisor(site, Rules(replicas=1, start_deadline_s=30, silence_s=30), SlotRecord())
        slot.start(deployment("r1"))
        while (state := await slot.observe()).phase is Phase.STARTING:
            await asyncio.sleep(0)
        await slot.shut_down()
        return state

    state = asyncio.run(fail())
    assert (state.phase, state.own_failure) == (Phase.FAILED, False)
    assert "trial-1 cannot be started" in str(state.failure)


def test_a_slot_that_can_not_start_anything_yet_does_so_as_soon_as_it_can(tmp_path: Path) -> None:
    async def resume() -> SlotState:
        home = SupervisorHome(tmp_path, ENDPOINT)
        # As on a full disk: no private socket can be made.
        sockets = home.socket_path.parent
        sockets.rmdir()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        site = Site(home, Slot.LIVE, claim_live(ENDPOINT.environment, port), changed=lambda: None)
        slot = SlotSupervisor(site, Rules(replicas=1, start_deadline_s=30, silence_s=30), SlotRecord())
        slot.resume()
        served = asyncio.create_task(slot.until_served())
        try:
            await asyncio.sleep(0)
            before = await slot.observe()
            assert not served.done()
            sockets.mkdir(mode=0o700)
            await served
            after = await slot.observe()
            assert [replica.name for replica in after.replicas] == ["live-1"] and after.phase is Phase.EMPTY
            assert slot.port == port
            worker = after.replicas[0].pid
            assert worker
            if hasattr(resource, "prlimit"):
                assert resource.prlimit(worker, resource.RLIMIT_DATA) == (MEMORY_BYTES, MEMORY_BYTES)
        finally:
            await slot.shut_down()
        return before

    before = asyncio.run(resume())
    assert (before.phase, before.replicas) == (Phase.STARTING, ())
