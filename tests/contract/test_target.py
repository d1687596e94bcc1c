"""What every target must do, asked of the fake, of the local target with real supervisors, and of a real Swarm."""

import itertools
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
PULL = b'{"read":{},"plan":{"rate":1,"rows":10}}'


@dataclass(frozen=True)
class Place:
    """A target that the tests of this file share, and three bundles: two that start, and one whose replicas crash.

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
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def release(self, digest: str) -> Release:
        """Return a release of a bundle that was never started."""
        number = str(next(self.numbers))
        return Release(f"r{number}", ENDPOINT.model, ENDPOINT.environment, number, digest)

    @property
    def epoch(self) -> int:
        """The smallest epoch that the target takes."""
        return max(self.target.highest_epoch(ENDPOINT), 1)

    def settle(self, slot: Slot = Slot.LIVE) -> SlotState:
        return eventually(lambda: self.target.observe(ENDPOINT, slot), settled, self.within_s)

    def serve(self, release: Release, slot: Slot = Slot.LIVE) -> SlotState:
        self.target.start(release, slot, epoch=self.epoch)
        return self.settle(slot)

    def serving(self, digest: str) -> Release:
        """Have the live slot serve a bundle, whatever it did before, and return the release."""
        state = self.settle()
        if state.release and state.release.bundle_digest == digest and state.serves(state.release):
            return state.release
        release = self.release(digest)
        assert self.serve(release).serves(release)
        return release


@pytest.fixture(scope="module", params=["fake", "local", "swarm"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if request.param == "fake":
        fake = FakeTarget(replicas=2)
        fake.broken["sha256:c"] = ("booting", f"{REFUSED_LINE}: expected sha256:c")
        yield Place(fake, "sha256:a", "sha256:b", "sha256:c")
        return
    home = tmp_path_factory.mktemp("target")
    made = [make_bundle(home / "bundles", seed=seed) for seed in (1, 2, 3)]
    model = made[2][0] / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    bundles = {digest: path for path, digest in made}
    on = _on_supervisor(bundles, home) if request.param == "local" else _on_swarm(bundles, home, request)
    with on as built:
        yield built


@contextmanager
def _on_supervisor(bundles: dict[str, Path], home: Path) -> Iterator[Place]:
    supervisor = SupervisorProcess(home / "home", replicas=2)
    supervisor.bundles.update(bundles)
    try:
        supervisor.start()
        yield Place(supervisor.target, *bundles)
    finally:
        supervisor.clean_up()


@contextmanager
def _on_swarm(bundles: dict[str, Path], home: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    swarm = request.getfixturevalue("swarm")
    with swarm.services(replicas=2):
        target = swarm.target(bundles, home)
        yield Place(target, *bundles, connect=swarm.connect, nobody="Name or service", within_s=SETTLE_S)


def test_an_environment_begins_without_a_release(place: Place) -> None:
    # The first to ask: the others find what the one before them left.
    assert place.target.highest_epoch(ENDPOINT) == 0
    state = place.target.observe(ENDPOINT, Slot.LIVE)
    assert (state.phase, state.release, state.wanted_id) == (Phase.EMPTY, None, None)
    assert not any(replica.ready for replica in state.replicas)
    assert place.target.observe(ENDPOINT, Slot.TRIAL).url is None


def test_start_settles_with_every_replica_on_the_digest(place: Place) -> None:
    release = place.release(place.good)
    place.target.prepare(ENDPOINT, release.bundle_digest)
    place.target.start(release, Slot.LIVE, epoch=place.epoch)
    assert place.target.observe(ENDPOINT, Slot.LIVE).wanted_id == release.id
    state = place.settle()
    assert state.serves(release), state
    assert len(state.replicas) == 2
    assert state.release == release
    images = place.target.images(release)
    assert images is None or "@sha256:" in images.image
    assert place.target.images(place.release(place.good)) is None


def test_starting_what_serves_changes_nothing(place: Place) -> None:
    release = place.serving(place.good)
    before = place.settle()
    place.target.start(release, Slot.LIVE, epoch=place.epoch + 1)
    assert place.target.observe(ENDPOINT, Slot.LIVE) == before


def test_a_smaller_epoch_is_refused_and_changes_nothing(place: Place) -> None:
    release, late, epoch = place.serving(place.good), place.release(place.better), place.epoch + 6
    place.target.start(release, Slot.LIVE, epoch=epoch)
    before, lost = place.settle(), f"lost lease, epoch {epoch - 1} < {epoch}"
    with pytest.raises(LostLease, match=lost):
        place.target.start(late, Slot.LIVE, epoch=epoch - 1)
    with pytest.raises(LostLease, match=lost):
        place.target.restore(ENDPOINT, None, epoch=epoch - 1)
    with pytest.raises(LostLease, match=lost):
        place.target.stop(ENDPOINT, Slot.LIVE, epoch=epoch - 1)
    with pytest.raises(LostLease, match=lost):
        place.target.set_traffic_weights(ENDPOINT, {Slot.LIVE: 1}, epoch=epoch - 1)
    assert place.target.observe(ENDPOINT, Slot.LIVE) == before
    assert place.target.highest_epoch(ENDPOINT) == epoch


def test_nobody_has_sampled_anything_of_a_slot_that_serves_nothing(place: Place) -> None:
    place.target.stop(ENDPOINT, Slot.TRIAL, epoch=place.epoch)
    assert place.settle(Slot.TRIAL).phase is Phase.EMPTY

    assert place.target.pull_samples(ENDPOINT, Slot.TRIAL, PULL) == []


def test_a_failed_start_in_an_empty_slot_leaves_it_refusing(place: Place) -> None:
    state = place.serve(place.release(place.crashing), Slot.TRIAL)
    assert (state.phase, state.release, state.replicas) == (Phase.FAILED, None, ())
    assert place.serve(place.release(place.good), Slot.TRIAL).phase is Phase.SETTLED
    place.target.stop(ENDPOINT, Slot.TRIAL, epoch=place.epoch)
    place.settle(Slot.TRIAL)


def test_a_slot_is_stopped_without_touching_another(place: Place) -> None:
    live, trial = place.serving(place.good), place.release(place.better)
    url = place.serve(trial, Slot.TRIAL).url
    assert url
    place.target.stop(ENDPOINT, Slot.TRIAL, epoch=place.epoch)
    state = place.settle(Slot.TRIAL)
    assert (state.phase, state.release, state.replicas, state.url) == (Phase.EMPTY, None, (), None)
    with pytest.raises(urllib.error.URLError, match=place.nobody):
        place.connect(url)
    assert place.settle().serves(live)


def test_a_crashing_release_leaves_the_old_serving_and_shows_its_last_lines(place: Place) -> None:
    old, bad = place.serving(place.good), place.release(place.crashing)
    state = place.serve(bad)
    assert (state.phase, state.release, state.wanted_id) == (Phase.FAILED, old, bad.id)
    assert "exited with status" in str(state.failure)
    assert state.own_failure
    assert REFUSED_LINE in "\n".join(state.last_log)
    assert all(replica.ready and replica.digest == place.good for replica in state.replicas)


def test_restore_after_a_failure_settles_on_the_recorded_release(place: Place) -> None:
    old, bad = place.serving(place.good), place.release(place.crashing)
    assert place.serve(bad).phase is Phase.FAILED
    place.target.restore(ENDPOINT, old, epoch=place.epoch)
    state = place.settle()
    assert state.serves(old), state
    assert (state.failure, state.last_log) == (None, ())


def test_restore_supersedes_a_release_that_is_still_starting(place: Place) -> None:
    old, new = place.serving(place.good), place.release(place.better)
    place.target.start(new, Slot.LIVE, epoch=place.epoch)
    place.target.restore(ENDPOINT, old, epoch=place.epoch)
    assert place.settle().serves(old)


def test_a_new_release_replaces_the_old(place: Place) -> None:
    first, second = place.serving(place.good), place.release(place.better)
    place.target.start(second, Slot.LIVE, epoch=place.epoch + 1)
    assert not place.target.observe(ENDPOINT, Slot.LIVE).serves(second)
    state = place.settle()
    assert state.serves(second), state
    assert not state.serves(first)


def test_restore_to_no_release_leaves_the_environment_alive_without_one(place: Place) -> None:
    place.serving(place.better)
    place.target.restore(ENDPOINT, None, epoch=place.epoch)
    state = place.settle()
    assert (state.phase, state.release, state.wanted_id) == (Phase.EMPTY, None, None)
    assert not any(replica.ready for replica in state.replicas)


def test_a_port_is_given_to_live_whole_or_not_at_all(place: Place) -> None:
    epoch = place.epoch
    place.target.set_traffic_weights(ENDPOINT, {Slot.LIVE: 1, Slot.TRIAL: 0, Slot.BASELINE: 0}, epoch=epoch)
    for weights in ({Slot.LIVE: 1, Slot.TRIAL: 1}, {Slot.LIVE: 2}, {Slot.TRIAL: 1}, {Slot.LIVE: 0}, {}):
        with pytest.raises(UsageError):
            place.target.set_traffic_weights(ENDPOINT, weights, epoch=epoch)
