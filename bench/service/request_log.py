"""What sampling every request costs a replica: the same replica in turn with the sample off, and on and pulled.

Compared is the processor time that a request takes, which is what bounds a replica of one core: the requests of a
second depend on who else has the machine's cores meanwhile.
"""

import json
import threading
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from bench.service.replica_process import ReadyReplica, running_replica
from bench.service.trained import make_bundles
from bench.service.wrk import require_wrk, run_wrk, write_rows
from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place
from pipelines.adapters.sample_pull import pull_from_socket
from pipelines.errors import SlipwayError

CONNECTIONS = 16
ROUNDS = 40
WARM_UP_S = 2
ROUND_S = 2
# More often than an executor does by default.
PULL_EVERY_S = 1.0
RING_ROWS = 1000
OFF, ON = 0.0, 1.0


class _Round(NamedTuple):
    req_per_s: float
    cpu_us: float


def measure(place: Place) -> Measured:
    """Run wrk against one replica with the sample off and on in turn; the median of the rounds' ratios counts."""
    require_wrk()
    [bundle] = make_bundles(place, 1)
    rows_file = place.workdir / "rows.jsonl"
    write_rows(rows_file, bundle.rows)
    found: dict[float, list[_Round]] = {OFF: [], ON: []}
    with running_replica(place, bundle) as replica:
        run_wrk(replica.port, rows_file, connections=CONNECTIONS, duration_s=WARM_UP_S)
        for number in range(ROUNDS):
            # The order changes, so that what drifts within a round favours neither.
            for rate in (OFF, ON) if number % 2 else (ON, OFF):
                found[rate].append(_round(place, replica, rows_file, rate))
    on, off = found[ON], found[OFF]
    figures = {
        "off_us": median(each.cpu_us for each in off),
        "on_us": median(each.cpu_us for each in on),
        "off_req_per_s": median(each.req_per_s for each in off),
        "on_req_per_s": median(each.req_per_s for each in on),
        "ratio": median(without.cpu_us / sampled.cpu_us for sampled, without in zip(on, off, strict=True)),
    }
    return Measured(
        about=f"wrk -t1 -c{CONNECTIONS} posts evaluation rows to one replica, {ROUNDS} rounds of {ROUND_S} s with every"
        f" request sampled into a ring of {RING_ROWS:,} that is pulled meanwhile, in turn with none; us are processor"
        " time of the replica a request, the ratio is of them, the median of the rounds'",
        figures=figures,
        limits=(Limit("ratio", Bound.AT_LEAST, 0.97),),
        samples={"off_us": [each.cpu_us for each in off], "on_us": [each.cpu_us for each in on]},
    )


def _round(place: Place, replica: ReadyReplica, rows_file: Path, rate: float) -> _Round:
    read = _pull(replica, rate, {})
    ended = threading.Event()

    def keep_pulling() -> None:
        position = read
        while not ended.wait(PULL_EVERY_S):
            position = _pull(replica, rate, position)

    pulling = threading.Thread(target=keep_pulling)
    pulling.start()
    before_s = _cpu_s(replica)
    try:
        run = run_wrk(replica.port, rows_file, connections=CONNECTIONS, duration_s=ROUND_S)
    finally:
        ended.set()
        pulling.join()
    found = _Round(run.req_per_s, (_cpu_s(replica) - before_s) * 1e6 / run.requests)
    place.report_progress(f"rate {rate:g}: {found.cpu_us:.1f} us a request, {run.req_per_s:,.0f} req/s")
    return found


def _cpu_s(replica: ReadyReplica) -> float:
    times = psutil.Process(replica.worker_pid).cpu_times()
    return times.user + times.system


def _pull(replica: ReadyReplica, rate: float, read: dict[str, int]) -> dict[str, int]:
    """Pull once, and return up to where was read; raise SlipwayError when the replica does not answer."""
    question = json.dumps({"read": read, "plan": {"rate": rate, "rows": RING_ROWS}}).encode()
    answer = pull_from_socket(replica.private_socket, question)
    if answer is None:
        raise SlipwayError("the replica does not answer on its private socket")
    told = json.loads(answer)
    entries = told["entries"]
    return {told["boot"]: entries[-1][0] if entries else 0}
