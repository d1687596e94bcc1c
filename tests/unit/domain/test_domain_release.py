from dataclasses import replace

import pytest

from pipelines.domain.release import Environment, Phase, Release, Replica, Slot, SlotState

RELEASE = Release("r-2", "toy-model", Environment.PRODUCTION, "2", "sha256:b")
FIRST = Replica("live-1", "sha256:b", "2", ready=True, restarts=0, pid=1)
SECOND = replace(FIRST, name="live-2", pid=2)
SETTLED = SlotState(Slot.LIVE, Phase.SETTLED, RELEASE, "r-2", "http://127.0.0.1:1", (FIRST, SECOND))


def test_a_slot_serves_a_release_that_every_replica_confirms() -> None:
    assert SETTLED.serves(RELEASE)


@pytest.mark.parametrize(
    "state",
    [
        replace(SETTLED, phase=Phase.STARTING),
        replace(SETTLED, phase=Phase.FAILED),
        replace(SETTLED, phase=Phase.EMPTY),
        replace(SETTLED, wanted_id="r-3"),
        replace(SETTLED, wanted_id=None),
        replace(SETTLED, replicas=()),
        replace(SETTLED, replicas=(FIRST, replace(SECOND, ready=False))),
        replace(SETTLED, replicas=(FIRST, replace(SECOND, digest="sha256:a"))),
        replace(SETTLED, replicas=(FIRST, replace(SECOND, digest=None, version=None))),
        replace(SETTLED, replicas=(FIRST, replace(SECOND, version="1"))),
    ],
)
def test_one_replica_that_differs_is_enough_to_not_serve(state: SlotState) -> None:
    assert not state.serves(RELEASE)


def test_people_read_stages_with_a_capital() -> None:
    assert [environment.stage for environment in Environment] == ["Staging", "Production"]
