"""What large batches cost their neighbours and their replica: the latency of single rows, and memory."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.load.load_client import LoadClient, under_load
from bench.service.replica_process import ReadyReplica, pss_mb, running_replica
from bench.service.trained import ServedBundle, make_bundles
from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place
from pipelines.errors import SlipwayError

LARGEST_BYTES = 16 * 2**20 - 1000
TOGETHER_BYTES = 15_000_000
TOGETHER = 30
ROWS_PER_S = 200
NEW_PER_S = 20
PHASE_S = 12.0
ROUNDS = 3
_LOOK_S = 0.05
_STOP_S = 150.0


def measure(place: Place) -> Measured:
    """Load one replica by single rows, alone and beside batches in turn; then send many batches together."""
    [bundle] = make_bundles(place, 1)
    alone, beside = [], []
    with running_replica(place, bundle) as replica:
        largest = _batch(place, bundle, LARGEST_BYTES)
        for _ in range(ROUNDS):
            alone.append(_latencies_ms(replica, bundle))
            with _sending(place, replica, largest, count=1000, at_once=1):
                beside.append(_latencies_ms(replica, bundle))
            place.report_progress(f"p99 {_p99(alone[-1]):.2f} ms alone, {_p99(beside[-1]):.2f} ms beside batches")
    with running_replica(place, bundle) as replica:
        peak_mb, told = _together(place, replica, _batch(place, bundle, TOGETHER_BYTES))
    ratios = [_p99(with_batches) / _p99(without) for without, with_batches in zip(alone, beside, strict=True)]
    return Measured(
        about=f"{ROWS_PER_S} single rows a second over kept and {NEW_PER_S} over new connections, {ROUNDS} rounds of"
        f" {PHASE_S:g} s alone and {PHASE_S:g} s beside batches of 16 MiB, one after the other; then {TOGETHER} batches"
        " of 15 MB at once, whose clients come again when they are told to",
        figures={
            "alone_p99_ms": sorted(map(_p99, alone))[ROUNDS // 2],
            "beside_p99_ms": sorted(map(_p99, beside))[ROUNDS // 2],
            "p99_ratio": sorted(ratios)[ROUNDS // 2],
            "beside_max_ms": max(map(max, beside)),
            "together_answered": told["statuses"].get("200", 0),
            "together_told_to_come_again": told["statuses"].get("503", 0),
            "together_otherwise": sum(n for status, n in told["statuses"].items() if status not in ("200", "503")),
            "together_slowest_s": told["slowest_s"],
            "together_memory_max_mb": peak_mb,
        },
        limits=(
            Limit("p99_ratio", Bound.AT_MOST, 2),
            Limit("together_answered", Bound.AT_LEAST, TOGETHER),
            Limit("together_otherwise", Bound.AT_MOST, 0),
            Limit("together_memory_max_mb", Bound.AT_MOST, 300),
        ),
        samples={"alone_p99_ms": list(map(_p99, alone)), "beside_p99_ms": list(map(_p99, beside))},
    )


def _latencies_ms(replica: ReadyReplica, bundle: ServedBundle) -> list[float]:
    url = f"http://127.0.0.1:{replica.port}"
    client = LoadClient(url, dict(bundle.rows[0]), kept_per_s=ROWS_PER_S, new_per_s=NEW_PER_S)
    with under_load(client) as load:
        time.sleep(PHASE_S)
    if load.failures:
        raise SlipwayError(f"{len(load.failures)} of {load.sent} single rows failed: {load.failures[0]}")
    return [latency_ms for _, _, latency_ms in load.answers]


def _together(place: Place, replica: ReadyReplica, batch: Path) -> tuple[float, dict[str, Any]]:
    """Return the most memory that the replica held, in MB, and what the senders were told."""
    peak_mb = 0.0
    with _sending(place, replica, batch, count=TOGETHER, at_once=TOGETHER) as sender:
        while sender.poll() is None:
            peak_mb = max(peak_mb, pss_mb(replica.worker_pid) + pss_mb(replica.master_pid))
            time.sleep(_LOOK_S)
        said, _ = sender.communicate()
    if sender.returncode:
        raise SlipwayError(f"the sender of batches ended with {sender.returncode}")
    told: dict[str, Any] = json.loads(said.splitlines()[-1])
    return peak_mb, told


@contextmanager
def _sending(
    place: Place, replica: ReadyReplica, batch: Path, *, count: int, at_once: int
) -> Iterator["subprocess.Popen[bytes]"]:
    arguments = [str(replica.port), str(batch), str(count), str(at_once)]
    sender = subprocess.Popen(
        [sys.executable, "-m", "bench.service.batch_sender", *arguments],
        cwd=place.settings.root,
        env=place.child_environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    try:
        yield sender
    finally:
        sender.kill()
        sender.wait(_STOP_S)


def _batch(place: Place, bundle: ServedBundle, size_bytes: int) -> Path:
    """Write the body of a batch of about so many bytes, and never more."""
    rows = [json.dumps(row) for row in bundle.rows]
    taken, length, number = [], 0, 0
    while length + len(rows[number % len(rows)]) + 2 < size_bytes - 20:
        taken.append(rows[number % len(rows)])
        length += len(taken[-1]) + 2
        number += 1
    path = place.workdir / f"batch-{size_bytes}.json"
    path.write_text('{"rows": [' + ", ".join(taken) + "]}")
    return path


def _p99(latencies_ms: list[float]) -> float:
    return sorted(latencies_ms)[int(0.99 * (len(latencies_ms) - 1))]
