"""Whether a live port changes its release without losing a request, how long that takes, and what kills cost."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

from bench.load.load_client import LoadClient, LoadResult, under_load
from bench.service.trained import ServedBundle, make_bundles
from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place
from bench.support.replicas import Replicas
from pipelines.domain.release import REPLICAS, Endpoint, Environment, Phase, Release, Slot
from pipelines.errors import SlipwayError, TargetUnavailable
from pipelines.ports import Target
from pipelines.wiring.targets import open_target

SWAPS = 300
KILLS = 20
KEPT_PER_S = 150
NEW_PER_S = 50
SWAP_WITHIN_S = 60.0
STOP_S = 40.0
_POLL_S = 0.02
ENVIRONMENT = Environment.PRODUCTION


def measure(place: Place) -> Measured:
    """Swap two versions under load that never retries; every failed request is counted."""
    bundles, count = make_bundles(place, 2), place.count or SWAPS
    url = f"http://127.0.0.1:{place.settings.production_port}"
    with running_supervisor(place) as target:
        _swap(target, _release(0, bundles))
        row = dict(bundles[0].rows[0])
        with under_load(LoadClient(url, row, kept_per_s=KEPT_PER_S, new_per_s=NEW_PER_S)) as load:
            swap_s = [_told(place, _swap(target, _release(n, bundles)), load) for n in range(1, count + 1)]
        # A killed process ends its connections without a word: clients look before they use one again.
        with under_load(LoadClient(url, row, kept_per_s=KEPT_PER_S, new_per_s=NEW_PER_S, looks=True)) as struck:
            replaced_s = Replicas(target, place.settings.endpoint(ENVIRONMENT)).kill_in_turn(KILLS)
    for failure in [*load.failures[:5], *struck.failures[:5]]:
        place.report_progress(failure)
    latencies_ms = sorted(latency_ms for _, _, latency_ms in load.answers)
    return Measured(
        about=f"{count} swaps of {REPLICAS[ENVIRONMENT]} replicas under {KEPT_PER_S} req/s over kept connections and"
        f" {NEW_PER_S} new connections a second, without retries; a swap ends when the old replicas have drained. Then"
        f" {KILLS} replicas are killed, each once the one before it was replaced",
        figures={
            "failed": len(load.failures),
            "sent": load.sent,
            "failed_killed": len(struck.failures),
            "sent_killed": struck.sent,
            "replaced_max_s": replaced_s,
            "swap_min_s": min(swap_s),
            "swap_median_s": median(swap_s),
            "swap_max_s": max(swap_s),
            "latency_p99_ms": latencies_ms[int(0.99 * (len(latencies_ms) - 1))],
        },
        limits=(Limit("failed", Bound.AT_MOST, 0), Limit("failed_killed", Bound.AT_MOST, 0)),
        samples={"swap_s": swap_s},
    )


@contextmanager
def running_supervisor(place: Place) -> Iterator[Target]:
    """Run production's supervisor alone; yield the target that asks it."""
    command = [sys.executable, "-m", "pipelines.adapters.local.supervisor"]
    endpoint = place.settings.endpoint(ENVIRONMENT)
    command += ["--model", endpoint.model, "--environment", str(ENVIRONMENT)]
    command += ["--home", str(place.settings.home), "--port", str(place.settings.production_port)]
    with (place.workdir / "supervisor.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--replicas", str(REPLICAS[ENVIRONMENT])],
            cwd=place.settings.root,
            env=place.child_environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            target = open_target(place.settings)
            _wait_answering(process, target, endpoint)
            yield target
        finally:
            # It drains its replicas before it ends; killed, it would leave them.
            process.terminate()
            process.wait(STOP_S)


def _wait_answering(process: "subprocess.Popen[bytes]", target: Target, endpoint: Endpoint) -> None:
    deadline = time.monotonic() + SWAP_WITHIN_S
    last = "nothing"
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if all(replica.pid for replica in target.observe(endpoint, Slot.LIVE).replicas):
                return
            last = "a replica that does not answer"
        except TargetUnavailable as error:
            last = error.message
        time.sleep(_POLL_S)
    raise SlipwayError(f"the supervisor did not come up (exit status {process.poll()}, last: {last})")


def _swap(target: Target, release: Release) -> float:
    """Start a release and return the seconds until it serves alone; raise SlipwayError when it does not."""
    begun = time.monotonic()
    target.start(release, Slot.LIVE, epoch=1)
    while time.monotonic() - begun < SWAP_WITHIN_S:
        state = target.observe(release.endpoint, Slot.LIVE)
        if state.serves(release):
            return time.monotonic() - begun
        if state.phase is Phase.FAILED:
            raise SlipwayError(f"version {release.version} did not start: {state.failure}")
        time.sleep(_POLL_S)
    raise SlipwayError(f"version {release.version} does not serve after {SWAP_WITHIN_S:g} s: {state}")


def _release(number: int, bundles: Sequence[ServedBundle]) -> Release:
    bundle = bundles[number % len(bundles)]
    return Release(f"r{number}", bundle.model, ENVIRONMENT, str(number), bundle.digest)


def _told(place: Place, swap_s: float, load: LoadResult) -> float:
    place.report_progress(f"swapped in {swap_s:.2f} s, {len(load.failures)} of {load.sent} failed so far")
    return swap_s
