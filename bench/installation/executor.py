"""What the executor costs while nothing is asked of it, and how soon it begins what is."""

import json
import time
from statistics import median

import psutil

from bench.service.trained import STRENGTHS, train_version
from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place, running_stack
from pipelines.api.client import ApiClient, take_to_production
from pipelines.operator.policy_file import read_policy_file
from pipelines.settings.tokens import read_tokens

IDLE_S = 30.0
# Longer than what follows a release: the last looks that find something new.
SETTLED_S = 15.0
COMMANDS = 20


def measure(place: Place) -> Measured:
    """Release a version, let the executor rest, then ask it for policy changes and await each."""
    with running_stack(place):
        tokens = read_tokens(place.settings.tokens_file)
        alice, bob = (ApiClient(place.settings, tokens[person]) for person in ("alice", "bob"))
        policy = read_policy_file(place.settings.project / "policy.demo.yaml")
        alice.ask("/policy", {"policy": policy}, place.report_progress)
        take_to_production(alice, bob, train_version(place, STRENGTHS[0]), place.report_progress)
        time.sleep(SETTLED_S)
        place.report_progress(f"looking at the executor at rest for {IDLE_S:g} s")
        idle_share = _busy_share(place, IDLE_S)
        reaction_s = [_reaction_s(alice, policy) for _ in range(COMMANDS)]
    return Measured(
        about=f"the executor of a full local stack with one release: its share of a core over {IDLE_S:g} s at rest,"
        f" and {COMMANDS} policy changes, each from the request until its stream says that it is in force",
        figures={
            "idle_share_percent": 100 * idle_share,
            "reaction_median_s": median(reaction_s),
            "reaction_max_s": max(reaction_s),
        },
        limits=(Limit("idle_share_percent", Bound.AT_MOST, 1.0), Limit("reaction_max_s", Bound.AT_MOST, 0.2)),
        samples={"reaction_s": reaction_s},
    )


def _busy_share(place: Place, seconds: float) -> float:
    """Return what share of a core the executor takes."""
    pid, _ = json.loads((place.settings.home / "run" / "processes.json").read_text())["executor"]
    process = psutil.Process(pid)
    before, begun = sum(process.cpu_times()[:2]), time.monotonic()
    time.sleep(seconds)
    busy_s: float = sum(process.cpu_times()[:2]) - before
    return busy_s / (time.monotonic() - begun)


def _reaction_s(client: ApiClient, policy: dict[str, object]) -> float:
    begun = time.monotonic()
    client.ask("/policy", {"policy": policy}, lambda line: None)
    return time.monotonic() - begun
