"""What every target must do, asked of the fake, of the local target with real supervisors, and of a real Swarm."""

import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.domain.release import Endpoint, Environment, Phase, Release, Slot, SlotState
from pipelines.errors import LostLease, UsageError
from pipelines.ports import Target
from tests.support.containers.swarm import SETTLE_S
from tests.support.world.bundles import make_bundle
from tests.support.world.fakes import FakeTarget
from tests.support.world.supervisors import SupervisorProcess, eventually, settled

ENDPOINT = Endpoint("toy-model", Environment.STAGING)
REFUSED_LINE = "digest mismatch"


@dataclass(frozen=True)
class Place:
    """A target and three bundles: two that start, and one whose replicas crash.

    `connect` reaches for a URL from where slots are reached; `nobody` is the error where nobody listens. A roll has
    to end within `within_s`.
    """

    target: Target
    good: str
    better: str
    crashing: str
    connect: Callable[[str], object] = lambda url: urllib.request.urlopen(url, timeout=5)
    nobody: str = "refused"
    within_s: float = 30

    def release(self, id: str, digest: str) -> Release:
        return Release(id, ENDPOINT.model, ENDPOINT.environment, id.removeprefix("r"), digest)

    def settle(self, slot: Slot = Slot.LIVE) -> SlotState:
        return eventually(lambda: self.target.observe(ENDPOINT, slot), settled, self.within_s)

    def serve(self, release: Release, slot: Slot = Slot.LIVE, *, epoch: int = 1) -> SlotState:
        self.target.start(release, slot, epoch=epoch)
        return self.settle(slot)


@pytest.fixture(params=["fake", "local", "swarm"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "fake":
        fake = FakeTarget(replicas=2)
        fake.broken["sha256:c"] = ("booting", f"{REFUSED_LINE}: expected sha256:c")
        yield Place(fake, "sha256:a", "sha256:b", "sha256:c")
        return
    made = [make_bundle(tmp_path / "bundles", seed=seed) for seed in (1, 2, 3)]
    model = made[2][0] / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    bundles = {digest: path for path, digest in made}
    on = _on_supervisor(bundles, tmp_path) if request.param == "local" else _on_swarm(bundles, tmp_path, request)
    with on as built:
        yield built


@contextmanager
def _on_supervisor(bundles: dict[str, Path], tmp_path: Path) -> Iterator[Place]:
    supervisor = SupervisorProcess(tmp_path / "home", replicas=2)
    supervisor.bundles.update(bundles)
    try:
        supervisor.start()
        yield Place(supervisor.target, *bundles)
    finally:
        supervisor.clean_up()


@contextmanager
def _on_swarm(bundles: dict[str, Path], tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    swarm = request.getfixturevalue("swarm")
    with swarm.services(replicas=2):
        target = swarm.target(bundles, tmp_path)
        yield Place(target, *bundles, connect=swarm.connect, nobody="Name or service", within_s=SETTLE_S)


def test_an_environment_begins_without_a_release(place: Place) -> None:
    state = place.target.observe(ENDPOINT, Slot.LIVE)
    assert (state.phase, state.release, state.wanted_id) == (Phase.EMPTY, None, None)
    assert not any(replica.ready for replica in state.replicas)
    assert place.target.observe(ENDPOINT, Slot.TRIAL).url is None
    assert place.target.highest_epoch(ENDPOINT) == 0


def test_start_settles_with_every_replica_on_the_digest(place: Place) -> None:
    release = place.release("r1", place.good)
    place.target.prepare(ENDPOINT, release.bundle_digest)
    place.target.start(release, Slot.LIVE, epoch=1)
    assert place.target.observe(ENDPOINT, Slot.LIVE).wanted_id == "r1"
    state = place.settle()
    assert state.serves(release), state
    assert len(state.replicas) == 2
    assert state.release == release


def test_a_new_release_replaces_the_old(place: Place) -> None:
    first, second = place.release("r1", place.good), place.release("r2", place.better)
    assert place.serve(first).serves(first)
    place.target.start(second, Slot.LIVE, epoch=2)
    assert not place.target.observe(ENDPOINT, Slot.LIVE).serves(second)
    state = place.settle()
    assert state.serves(second), state
    assert not state.serves(first)


def test_a_crashing_release_leaves_the_old_serving_and_shows_its_last_lines(place: Place) -> None:
    old, bad = place.release("r1", place.good), place.release("r2", place.crashing)
    place.serve(old)
    state = place.serve(bad)
    assert (state.phase, state.release, state.wanted_id) == (Phase.FAILED, old, "r2")
    assert "exited with status" in str(state.failure)
    assert REFUSED_LINE in "\n".join(state.last_log)
    assert all(replica.ready and replica.digest == place.good for replica in state.replicas)


def test_restore_after_a_failure_settles_on_the_recorded_release(place: Place) -> None:
    old, bad = place.release("r1", place.good), place.release("r2", place.crashing)
    place.serve(old)
    place.serve(bad)
    place.target.restore(ENDPOINT, old, epoch=1)
    state = place.settle()
    assert state.serves(old), state
    assert (state.failure, state.last_log) == (None, ())


def test_restore_supersedes_a_release_that_is_still_starting(place: Place) -> None:
    old, new = place.release("r1", place.good), place.release("r2", place.better)
    place.serve(old)
    place.target.start(new, Slot.LIVE, epoch=1)
    place.target.restore(ENDPOINT, old, epoch=1)
    assert place.settle().serves(old)


def test_restore_to_no_release_leaves_the_environment_alive_without_one(place: Place) -> None:
    place.serve(place.release("r1", place.good))
    place.target.restore(ENDPOINT, None, epoch=1)
    state = place.settle()
    assert (state.phase, state.release, state.wanted_id) == (Phase.EMPTY, None, None)
    assert not any(replica.ready for replica in state.replicas)


def test_a_slot_is_stopped_without_touching_another(place: Place) -> None:
    live, trial = place.release("r1", place.good), place.release("r2", place.better)
    place.serve(live)
    url = place.serve(trial, Slot.TRIAL).url
    assert url
    place.target.stop(ENDPOINT, Slot.TRIAL, epoch=1)
    state = place.settle(Slot.TRIAL)
    assert (state.phase, state.release, state.replicas, state.url) == (Phase.EMPTY, None, (), None)
    with pytest.raises(urllib.error.URLError, match=place.nobody):
        place.connect(url)
    assert place.settle().serves(live)


def test_a_failed_start_in_an_empty_slot_leaves_it_refusing(place: Place) -> None:
    state = place.serve(place.release("r1", place.crashing), Slot.TRIAL)
    assert (state.phase, state.release, state.replicas) == (Phase.FAILED, None, ())
    assert place.serve(place.release("r2", place.good), Slot.TRIAL).phase is Phase.SETTLED


def test_starting_what_serves_changes_nothing(place: Place) -> None:
    release = place.release("r1", place.good)
    before = place.serve(release)
    place.target.start(release, Slot.LIVE, epoch=2)
    assert place.target.observe(ENDPOINT, Slot.LIVE) == before


def test_a_smaller_epoch_is_refused_and_changes_nothing(place: Place) -> None:
    release, late = place.release("r1", place.good), place.release("r2", place.better)
    before = place.serve(release, epoch=7)
    with pytest.raises(LostLease, match="lost lease, epoch 6 < 7"):
        place.target.start(late, Slot.LIVE, epoch=6)
    with pytest.raises(LostLease, match="lost lease, epoch 6 < 7"):
        place.target.restore(ENDPOINT, None, epoch=6)
    with pytest.raises(LostLease, match="lost lease, epoch 6 < 7"):
        place.target.stop(ENDPOINT, Slot.LIVE, epoch=6)
    with pytest.raises(LostLease, match="lost lease, epoch 6 < 7"):
        place.target.set_traffic_weights(ENDPOINT, {Slot.LIVE: 1}, epoch=6)
    assert place.target.observe(ENDPOINT, Slot.LIVE) == before
    assert place.target.highest_epoch(ENDPOINT) == 7


def test_a_port_is_given_to_live_whole_or_not_at_all(place: Place) -> None:
    place.target.set_traffic_weights(ENDPOINT, {Slot.LIVE: 1, Slot.TRIAL: 0, Slot.BASELINE: 0}, epoch=1)
    for weights in ({Slot.LIVE: 1, Slot.TRIAL: 1}, {Slot.LIVE: 2}, {Slot.TRIAL: 1}, {Slot.LIVE: 0}, {}):
        with pytest.raises(UsageError):
            place.target.set_traffic_weights(ENDPOINT, weights, epoch=1)
