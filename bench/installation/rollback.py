"""How long production takes to be back on the old version, from the command to the last replica."""

import json
import subprocess
import time
from statistics import median

from bench.service.trained import STRENGTHS, train_version
from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place, running_stack, slipway
from pipelines.api.client import ApiClient, take_to_production
from pipelines.domain.release import Environment, Slot
from pipelines.errors import SlipwayError
from pipelines.operator.policy_file import read_policy_file
from pipelines.settings.tokens import read_tokens
from pipelines.wiring.targets import open_target

MEASURED = 3
BACK_WITHIN_S = 60.0
_POLL_S = 0.01


def measure(place: Place) -> Measured:
    """Promote two versions, then roll back and promote again in turn; the first rollback warms up."""
    serving_s: list[float] = []
    command_s: list[float] = []
    with running_stack(place):
        tokens = read_tokens(place.settings.tokens_file)
        alice, bob = (ApiClient(place.settings, tokens[person]) for person in ("alice", "bob"))
        policy = read_policy_file(place.settings.project / "policy.demo.yaml")
        alice.ask("/policy", {"policy": policy}, place.report_progress)
        old, new = (train_version(place, strength) for strength in STRENGTHS)
        place.report_progress(f"promoting v{old}")
        take_to_production(alice, bob, old, place.report_progress)
        for number in range(1 + MEASURED):
            place.report_progress(f"promoting v{new}")
            take_to_production(alice, bob, new, place.report_progress)
            serving, ended = _roll_back(place, old)
            place.report_progress(f"back on v{old} after {serving:.2f} s, command ended after {ended:.2f} s")
            if number:
                serving_s.append(serving)
                command_s.append(ended)
    return Measured(
        about=f"slipway rollback of two production replicas on a full local stack, {MEASURED} times after one to"
        " warm up: from the command's start until every replica answers with the old version on its private"
        " socket, and until the command ends (drained, verified, alias moved)",
        figures={
            "back_min_s": min(serving_s),
            "back_median_s": median(serving_s),
            "back_max_s": max(serving_s),
            "command_median_s": median(command_s),
        },
        limits=(Limit("back_max_s", Bound.AT_MOST, 4, aim=2),),
        samples={"back_s": serving_s, "command_s": command_s},
    )


def _roll_back(place: Place, old: str) -> tuple[float, float]:
    """Run the command; return the seconds until `old` serves everywhere, and until the command ended."""
    begun = time.monotonic()
    process = subprocess.Popen(
        [slipway(), "rollback", "--json"],
        env=place.child_environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        serving_s = _until_serving(place, old, begun)
        output, _ = process.communicate(timeout=BACK_WITHIN_S)
        ended_s = time.monotonic() - begun
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0 or json.loads(output)["version"] != old:
        raise SlipwayError(f"slipway rollback ended with {process.returncode}: {output.strip()}")
    return serving_s, ended_s


def _until_serving(place: Place, version: str, begun: float) -> float:
    target = open_target(place.settings)
    production = place.settings.endpoint(Environment.PRODUCTION)
    count = len(target.observe(production, Slot.LIVE).replicas)
    while time.monotonic() - begun < BACK_WITHIN_S:
        replicas = target.observe(production, Slot.LIVE).replicas
        if len(replicas) == count and all(replica.ready and replica.version == version for replica in replicas):
            return time.monotonic() - begun
        time.sleep(_POLL_S)
    raise SlipwayError(f"not every replica serves v{version} after {BACK_WITHIN_S:g} s: {replicas}")
