"""How far a roll is, read off task states as the engine's API gives them."""

import dataclasses
from typing import Any

import pytest

from pipelines.adapters.swarm.order import Deployed, ServiceOrder, with_record
from pipelines.adapters.swarm.tasks import Patience, Roll, Waited, read_task
from pipelines.domain.release import Environment, Phase, Release, Slot

SINCE = 100
NO_WAIT = Waited()
PATIENCE = Patience(place_s=5, start_s=20)
NEW = Deployed(Release("r2", "toy-model", Environment.STAGING, "2", "sha256:b"), "name@sha256:b")
OLD = Deployed(Release("r1", "toy-model", Environment.STAGING, "1", "sha256:a"), "name@sha256:a")
NO_NODE = "no suitable node (insufficient resources on 1 node)"


def task(release: str | None, number: int, state: str, desired: str = "running", **more: Any) -> dict[str, Any]:
    status: dict[str, Any] = {"State": state, "Err": more.get("err", "")}
    if "exit_code" in more:
        status["ContainerStatus"] = {"ExitCode": more["exit_code"]}
    index = more.get("index", SINCE + 1)
    image = more.get("image", {"r1": OLD.image, "r2": NEW.image}.get(release or "", "app@sha256:0"))
    return {
        "ID": more.get("id", f"{release}-{number}-{state}-{index}"),
        "Slot": number,
        "Version": {"Index": index},
        "NodeID": more.get("node", "n1"),
        "DesiredState": desired,
        "Spec": {"ContainerSpec": {"Image": image, "Env": [f"SLIPWAY_RELEASE={release}"] if release else None}},
        "Status": status,
        "NetworksAttachments": [{"Addresses": [f"10.0.1.{number}/24"]}],
    }


def roll(*tasks: dict[str, Any], replicas: int = 2, status: str = "", lost_nodes: tuple[str, ...] = ()) -> Roll:
    record = ServiceOrder(wanted=NEW, served=OLD, epoch=1, since=SINCE)
    read = tuple(read_task(each, lost_nodes) for each in tasks)
    return Roll(Slot.LIVE, 200, record, replicas, status, f"update {status}", read)


def judged(of: Roll, waited: Waited = NO_WAIT) -> tuple[Phase, str | None]:
    return of.judged(waited, PATIENCE)


RUNNING = (task("r2", 1, "running"), task("r2", 2, "running"))
OLD_TWO = (task("r1", 1, "running", index=50), task("r1", 2, "running", index=51))
CRASHED = task("r2", 1, "failed", "shutdown", exit_code=3, err="task: non-zero exit (3)")


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        (roll(*RUNNING), Phase.SETTLED),
        (roll(*RUNNING, task("r1", 1, "shutdown", "shutdown")), Phase.SETTLED),
        (roll(*RUNNING, task("r1", 1, "running", "shutdown")), Phase.STARTING),
        (roll(RUNNING[0]), Phase.STARTING),
        (roll(RUNNING[0], task("r2", 2, "starting")), Phase.STARTING),
        (roll(*OLD_TWO, task("r2", 1, "preparing")), Phase.STARTING),
        (roll(RUNNING[0], RUNNING[0]), Phase.STARTING),
        # Put there by hand under the release's name.
        (roll(RUNNING[0], task("r2", 2, "running", image="app@sha256:0")), Phase.STARTING),
        (roll(*OLD_TWO), Phase.STARTING),
        (roll(*OLD_TWO, CRASHED), Phase.FAILED),
        (roll(*OLD_TWO, task("r2", 1, "starting"), CRASHED), Phase.FAILED),
        (roll(*OLD_TWO, task("r2", 1, "rejected", "shutdown", err="No such image")), Phase.FAILED),
        (roll(*OLD_TWO, task("r2", 1, "complete", "shutdown", exit_code=0)), Phase.FAILED),
        (roll(*OLD_TWO, task("r2", 1, "starting"), status="paused"), Phase.FAILED),
        (roll(*OLD_TWO, status="rollback_completed"), Phase.FAILED),
        # Failures of others, and of an earlier time, say nothing of this order.
        (roll(*OLD_TWO, task("r1", 2, "failed", "shutdown", exit_code=1)), Phase.STARTING),
        (roll(*OLD_TWO, task("r2", 1, "failed", "shutdown", index=SINCE)), Phase.STARTING),
        # Running again after a crash, all of them: that is settled, and the crash is counted.
        (roll(*RUNNING, CRASHED), Phase.SETTLED),
    ],
)
def test_the_phase_of_a_roll(state: Roll, phase: Phase) -> None:
    assert judged(state)[0] is phase


NO_MEMORY = "starting container failed: mkdir /var/lib/docker: no space left on device"
PENDING = task("r2", 2, "pending", err=NO_NODE)


@pytest.mark.parametrize(
    ("state", "own"),
    [
        (roll(*OLD_TWO, CRASHED), True),
        (roll(*OLD_TWO, task("r2", 1, "complete", "shutdown", exit_code=0)), True),
        (roll(*OLD_TWO, task("r2", 1, "starting")), True),
        (roll(*OLD_TWO, task("r2", 1, "rejected", "shutdown", err="No such image")), False),
        (roll(*OLD_TWO, task("r2", 1, "failed", "shutdown", err=NO_MEMORY)), False),
        (roll(*OLD_TWO, task("r2", 1, "preparing")), False),
        (roll(*OLD_TWO, PENDING), False),
        (roll(task("r2", 1, "starting"), PENDING), False),
        (roll(*RUNNING, task("r1", 1, "running", "shutdown")), False),
        (roll(*OLD_TWO, status="rollback_completed"), False),
    ],
)
def test_what_never_ran_says_nothing_of_the_release(state: Roll, own: bool) -> None:
    assert judged(state, Waited(order_s=60, place_s=60))[0] is Phase.FAILED
    assert state.own_failure is own


def test_a_crash_tells_the_exit_status() -> None:
    assert judged(roll(*OLD_TWO, CRASHED))[1] == "live-1 exited with status 3 while starting (task: non-zero exit (3))"


def test_a_rejected_task_tells_the_engines_reason() -> None:
    state = roll(*OLD_TWO, task("r2", 2, "rejected", "shutdown", err="No such image: x"))
    assert judged(state)[1] == "live-2 was rejected: No such image: x"


def test_a_replica_without_a_node_fails_after_its_own_time_with_the_schedulers_reason() -> None:
    state = roll(*OLD_TWO, task("r2", 1, "pending", err=NO_NODE))
    assert judged(state, Waited(order_s=6, place_s=5))[0] is Phase.STARTING
    phase, failure = judged(state, Waited(order_s=6, place_s=5.1))
    assert (phase, failure) == (Phase.FAILED, f"live-1 finds no node: {NO_NODE}")


def test_a_roll_fails_at_its_deadline_and_says_where_it_stands() -> None:
    state = roll(*OLD_TWO, task("r2", 1, "starting"))
    assert judged(state, Waited(order_s=20))[0] is Phase.STARTING
    assert judged(state, Waited(order_s=20.1)) == (Phase.FAILED, "not settled within 20 s: live-1 starting")
    drained = roll(*RUNNING, task("r1", 2, "running", "shutdown"))
    assert "live-2 of the former release not gone" in str(judged(drained, Waited(order_s=21))[1])


def test_more_replicas_have_more_time_as_they_are_rolled_one_after_the_other() -> None:
    state = roll(*OLD_TWO, task("r2", 1, "starting"), replicas=12)
    assert judged(state, Waited(order_s=120))[0] is Phase.STARTING
    assert str(judged(state, Waited(order_s=120.1))[1]).startswith("not settled within 120 s")


def test_a_replica_lost_after_the_roll_was_completed_fails_nothing() -> None:
    lost = roll(RUNNING[0], task("r2", 2, "failed", "shutdown", exit_code=137), status="completed")
    assert judged(lost) == (Phase.SETTLED, None)
    assert [task.number for task in lost.lost] == [2]


def test_a_replica_that_was_never_there_keeps_a_completed_roll_from_settling() -> None:
    """Swarm calls a roll completed that has replaced all old tasks, whatever becomes of additional ones."""
    state = roll(RUNNING[0], task("r2", 2, "pending", err=NO_NODE), status="completed")
    assert judged(state)[0] is Phase.STARTING
    assert judged(state, Waited(order_s=6, place_s=6))[0] is Phase.FAILED


def test_a_settled_release_stays_settled_when_a_replica_is_lost() -> None:
    lost = roll(RUNNING[0], CRASHED)
    assert judged(lost)[0] is Phase.FAILED
    remembered = dataclasses.replace(lost, record=dataclasses.replace(lost.record, settled=True))
    assert judged(remembered) == (Phase.SETTLED, None)


def test_tasks_told_to_end_on_a_lost_node_have_ended() -> None:
    left = task("r1", 1, "running", "shutdown", node="n2")
    assert judged(roll(*RUNNING, left))[0] is Phase.STARTING
    assert judged(roll(*RUNNING, left, lost_nodes=("n2",)))[0] is Phase.SETTLED


def test_an_emptied_slot_is_empty_when_nobody_is_left() -> None:
    record = ServiceOrder(wanted=None, served=NEW, since=SINCE)
    draining = dataclasses.replace(roll(task("r2", 1, "running", "remove"), replicas=0), record=record)
    assert judged(draining) == (Phase.STARTING, None)
    assert judged(dataclasses.replace(draining, tasks=())) == (Phase.EMPTY, None)


def test_the_newest_task_of_each_place_serves() -> None:
    state = roll(task("r2", 1, "ready", "ready", index=130), task("r2", 1, "running", index=120), RUNNING[1])
    assert [(task.number, task.index) for task in state.serving(NEW)] == [(1, 130), (2, SINCE + 1)]
    assert state.serving(OLD) == state.serving(None) == ()


@pytest.mark.parametrize(
    "record",
    [
        ServiceOrder(),
        ServiceOrder(wanted=NEW, served=OLD, epoch=7, since=41, settled=True),
        ServiceOrder(wanted=None, served=OLD, epoch=7, since=41),
    ],
)
def test_labels_keep_a_record_and_all_that_is_not_ours(record: ServiceOrder) -> None:
    former = {"slipway.role": "environment"} | ServiceOrder(wanted=OLD, served=NEW, epoch=1, settled=True).as_labels()
    labels = with_record(former, record)
    assert ServiceOrder.from_labels(labels) == record
    assert labels["slipway.role"] == "environment"
    assert labels.get("slipway.release") == record.wanted_id
