"""An installation on containers: how soon it is up, what it needs, promotion and rollback, and what rolls lose."""

import dataclasses
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from bench.load.load_client import LoadClient, LoadResult, under_load
from bench.service.trained import STRENGTHS, evaluation_row, train_version
from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place, free_ports
from pipelines.api.client import ApiClient, executor_silence, take_to_production
from pipelines.errors import Inconclusive, SlipwayError
from pipelines.operator.policy_file import read_policy_file
from pipelines.operator.up import bring_up
from pipelines.settings.settings import TargetName
from pipelines.settings.tokens import read_tokens
from pipelines.wiring.images import build_images, open_engine_client
from pipelines.wiring.targets import open_installation

# A promotion and a rollback each.
CYCLES = 30
KILLS = 20
REPLICAS = 2
KEPT_PER_S, NEW_PER_S = 160, 40
IDLE_S = 20.0
WITHIN_S = 180.0
ATTEMPTS = 3
SLO_STEP = "latency SLO under load"
MIB_OF = {"KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
_POLL_S = 0.1


def measure(place: Place) -> Measured:
    """Bring a whole installation up, take two versions back and forth under load, kill replicas, remove everything."""
    place = _on_containers(place)
    build_images((), place.environ, place.report_progress)
    with _installation(place) as up_s:
        time.sleep(IDLE_S)
        idle_mib = _memory_mib(place)
        measured = _Rolling(place)
        with under_load(measured.load_client()) as load:
            cycles = place.count or CYCLES
            for number in range(cycles):
                measured.cycle(number, cycles, load)
            measured.kill_replicas(load)
            executor_s = measured.kill_executor()
    for failure in load.failures[:5]:
        place.report_progress(failure)
    return Measured(
        about=f"an installation on containers with {REPLICAS} replicas in production, its images built before;"
        f" {cycles} promotions and {cycles} rollbacks in turn and then {KILLS} killed replicas under"
        f" {KEPT_PER_S} req/s over kept connections and {NEW_PER_S} new connections a second, without retries;"
        " a promotion is measured from the request to its end, without its load run's own seconds; at last the executor"
        " is killed, and its successor awaited",
        figures={
            "up_s": up_s,
            "idle_mib": idle_mib,
            "promotion_max_s": max(measured.promotion_s),
            "promotion_median_s": median(measured.promotion_s),
            "rollback_first_max_s": max(measured.first_s),
            "rollback_last_bad_max_s": max(measured.last_bad_s),
            "rollback_command_median_s": median(measured.rollback_s),
            "executor_back_s": executor_s,
            "failed": len(load.failures),
            "sent": load.sent,
        },
        limits=(
            Limit("up_s", Bound.AT_MOST, 90),
            Limit("promotion_max_s", Bound.AT_MOST, 60),
            Limit("rollback_first_max_s", Bound.AT_MOST, 10),
            Limit("rollback_last_bad_max_s", Bound.AT_MOST, 20),
            Limit("executor_back_s", Bound.AT_MOST, 15),
            Limit("failed", Bound.AT_MOST, 0),
        ),
        samples={
            "promotion_s": measured.promotion_s,
            "rollback_first_s": measured.first_s,
            "rollback_last_bad_s": measured.last_bad_s,
            "rollback_command_s": measured.rollback_s,
        },
    )


class _Rolling:
    """Two versions of one installation, and what was measured of their ways to production and back."""

    def __init__(self, place: Place) -> None:
        self._place = place
        tokens = read_tokens(place.settings.tokens_file)
        self._alice, self._bob = (ApiClient(place.settings, tokens[person]) for person in ("alice", "bob"))
        self._slo_s = self._apply_policy()
        self._old, self._new = (train_version(place, strength) for strength in STRENGTHS)
        self._promote(self._old)
        self.promotion_s: list[float] = []
        self.first_s: list[float] = []
        self.last_bad_s: list[float] = []
        self.rollback_s: list[float] = []

    def load_client(self) -> LoadClient:
        """Return a client that asks production for the prediction of a row."""
        url = f"http://127.0.0.1:{self._place.settings.production_port}"
        row = evaluation_row(self._place, STRENGTHS[0])
        return LoadClient(url, row, kept_per_s=KEPT_PER_S, new_per_s=NEW_PER_S)

    def cycle(self, number: int, cycles: int, load: LoadResult) -> None:
        """Promote the new version and roll it back."""
        taken_s = self._promote(self._new)
        self.promotion_s.append(taken_s)
        begun = time.monotonic()
        self._alice.ask("/rollbacks", {"environment": "production"}, _unheard)
        self.rollback_s.append(time.monotonic() - begun)
        # What still came from the bad version would come within a moment.
        time.sleep(1.0)
        since = [(at - begun, version) for at, version, _ in load.answers if at > begun]
        self.first_s.append(min(at for at, version in since if version == self._old))
        self.last_bad_s.append(max((at for at, version in since if version == self._new), default=0.0))
        self._place.report_progress(
            f"{number + 1} of {cycles}: promoted in {taken_s:.1f} s and the load run; back, first reply after"
            f" {self.first_s[-1]:.1f} s, last of the bad version after {self.last_bad_s[-1]:.1f} s;"
            f" {len(load.failures)} of {load.sent} failed so far"
        )

    def kill_replicas(self, load: LoadResult) -> None:
        """Kill one replica after the other, and wait each time until it was replaced."""
        client = open_engine_client(self._place.environ)
        service = f"{self._place.settings.prefix}-production-live"
        words = ("ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={service}")
        healthy = (*words, "--filter", "health=healthy")
        for number in range(KILLS):
            victim = (client.asked(*words) or "").split()[0]
            client.asked("kill", victim)
            deadline = time.monotonic() + WITHIN_S
            while len((client.asked(*healthy) or "").split()) < REPLICAS:
                if time.monotonic() > deadline:
                    raise SlipwayError(f"a killed replica was not replaced within {WITHIN_S:g} s")
                time.sleep(_POLL_S)
            time.sleep(1.0)
            self._place.report_progress(
                f"killed {number + 1} of {KILLS}: {len(load.failures)} of {load.sent} failed so far"
            )

    def kill_executor(self) -> float:
        """Kill the executor; return the seconds until its successor shows that it works."""
        client = open_engine_client(self._place.environ)
        service = f"{self._place.settings.prefix}-executor"
        words = ("ps", "--quiet", "--filter", f"label=com.docker.swarm.service.name={service}")
        (victim,) = (client.asked(*words) or "").split()
        former, begun = self._alice.get("/status")["executor"]["heartbeat_at"], time.monotonic()
        client.asked("kill", victim)
        while True:
            status = self._alice.get("/status")
            # The last sign of the killed one may be younger than the one that was read.
            lives = bool(set((client.asked(*words) or "").split()) - {victim})
            if lives and status["executor"]["heartbeat_at"] > former and not executor_silence(status):
                return time.monotonic() - begun
            former = former if lives else status["executor"]["heartbeat_at"]
            if time.monotonic() > begun + WITHIN_S:
                raise SlipwayError(f"a killed executor was not replaced within {WITHIN_S:g} s")
            time.sleep(_POLL_S)

    def _apply_policy(self) -> float:
        """Put the demonstration's policy in force, its latency limit out of the way; return a load run's seconds."""
        body = read_policy_file(self._place.settings.project / "policy.demo.yaml")
        slo: dict[str, Any] = body["slo"]
        slo |= {"rate_per_s": 100, "duration_s": 10, "extension": False}
        slo["comparison"] = False
        slo["quantiles"] = [{"quantile": 0.95, "limit_ms": 2000, "judged": True}]
        self._alice.ask("/policy", {"policy": body}, _unheard)
        return float(slo["warmup_s"] + slo["duration_s"])

    def _promote(self, version: str) -> float:
        """Take a version into production; return the seconds that it took beside its load run and the wait."""
        for left in reversed(range(ATTEMPTS)):
            begun = time.monotonic()
            try:
                take_to_production(self._alice, self._bob, version, _unheard)
                return time.monotonic() - begun - self._slo_s
            except Inconclusive as undecided:
                if not left:
                    raise
                self._place.report_progress(f"measuring v{version} again: {undecided.message}")
        raise SlipwayError(f"v{version} was never measured")


def _unheard(line: str) -> None:
    """Take a step that nobody waits for."""


@contextmanager
def _installation(place: Place) -> Iterator[float]:
    """Bring it up, yield the seconds that took, and remove everything at the end."""
    try:
        begun = time.monotonic()
        bring_up(place.settings, place.environ, place.report_progress)
        up_s = time.monotonic() - begun
        place.report_progress(f"up after {up_s:.1f} s")
        yield up_s
    finally:
        open_installation(place.settings, place.environ).destroy(place.report_progress)


def _on_containers(place: Place) -> Place:
    s3, images = free_ports(2)
    settings = dataclasses.replace(
        place.settings,
        target=TargetName.DOCKER,
        prefix=f"bench-{secrets.token_hex(3)}",
        s3_port=s3,
        images_port=images,
    )
    return dataclasses.replace(place, settings=settings)


def _memory_mib(place: Place) -> float:
    """Return the memory of all containers of the installation, as the engine counts it, without page cache."""
    told = open_engine_client(place.environ).asked("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}")
    total = 0.0
    for line in (told or "").splitlines():
        name, used = line.split()[:2]
        number = re.fullmatch(r"([0-9.]+)([A-Za-z]+)", used)
        if name.startswith(f"{place.settings.prefix}-") and number:
            mib = float(number[1]) * MIB_OF.get(number[2], 0.0)
            place.report_progress(f"{name.split('.')[0]} {mib:.0f} MiB")
            total += mib
    return total
