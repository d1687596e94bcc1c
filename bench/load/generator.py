"""What one core of the load generator can send on time, and how near its latencies are to the truth."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bench.load.reference import LatencyModel, running_reference
from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place
from pipelines.errors import SlipwayError

RATES_PER_S = (1000, 2000, 3000, 4000, 5000)
PROMISED_PER_S = 3000
SEND_S = 10.0
MAX_LAG_MS = 1.0
MIN_ACHIEVED = 0.99
# Far from one another, so that a request of the wrong kind could not be overlooked.
TRUTH = LatencyModel(base_ms=4.0, slow_share=0.02, slow_ms=24.0)
TRUTH_RATE_PER_S = 500
TRUTH_S = 20.0
QUANTILES = (0.5, 0.95, 0.99)
ABSOLUTE_MS, RELATIVE = 0.4, 0.05

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sent:
    """What a phase of load sent: lag of each request and its latency in ms, and the generator's own CPU share."""

    lag_ms: Floats
    latency_ms: Floats
    achieved: float
    cpu: float

    @property
    def lag_p99_ms(self) -> float:
        """Return the send lag that 99 % of the requests kept."""
        return float(np.quantile(self.lag_ms, 0.99))

    @property
    def on_time(self) -> bool:
        """Whether the schedule was kept."""
        return self.lag_p99_ms <= MAX_LAG_MS and self.achieved >= MIN_ACHIEVED


def measure(place: Place) -> Measured:
    """Send at rising rates to a server that answers at once, then at one rate to a server of known delays."""
    rates = {}
    for rate_per_s in RATES_PER_S:
        with running_reference(LatencyModel(), place.workdir, place.settings.root) as reference:
            rates[rate_per_s] = sent = _send(place, reference.port, rate_per_s=rate_per_s, duration_s=SEND_S)
        place.report_progress(f"{rate_per_s} req/s: lag p99 {sent.lag_p99_ms:.2f} ms, {sent.cpu:.0%} of a core")
    with running_reference(TRUTH, place.workdir, place.settings.root) as reference:
        seen = _send(place, reference.port, rate_per_s=TRUTH_RATE_PER_S, duration_s=TRUTH_S)
    promised = rates[PROMISED_PER_S]
    figures = {
        "sustained_req_per_s": max((rate for rate, sent in rates.items() if sent.on_time), default=0),
        "at_3000_send_lag_p99_ms": promised.lag_p99_ms,
        "at_3000_sent_in_time_share": promised.achieved,
        "at_3000_cpu_share": promised.cpu,
    }
    for quantile in QUANTILES:
        truth_ms = float(np.quantile(reference.held_ms, quantile))
        error_ms = abs(float(np.quantile(seen.latency_ms, quantile)) - truth_ms)
        figures[f"p{quantile * 100:g}_truth_ms"] = truth_ms
        figures[f"p{quantile * 100:g}_error_ms"] = error_ms
        figures[f"p{quantile * 100:g}_error_of_allowed"] = error_ms / max(ABSOLUTE_MS, RELATIVE * truth_ms)
    return Measured(
        about=f"one Locust process sends by an open-model Poisson schedule for {SEND_S:g} s at each rate; then"
        f" {TRUTH_RATE_PER_S} req/s against a server that holds 2 % of the requests 20 ms longer and measures that",
        figures=figures,
        limits=_limits(),
        samples={f"at_{rate}_send_lag_p99_ms": [sent.lag_p99_ms] for rate, sent in rates.items()},
    )


def _limits() -> tuple[Limit, ...]:
    errors = [Limit(f"p{quantile * 100:g}_error_of_allowed", Bound.AT_MOST, 1) for quantile in QUANTILES]
    sustained = Limit("sustained_req_per_s", Bound.AT_LEAST, PROMISED_PER_S)
    return (sustained, Limit("at_3000_send_lag_p99_ms", Bound.AT_MOST, MAX_LAG_MS), *errors)


def _send(place: Place, port: int, *, rate_per_s: float, duration_s: float) -> Sent:
    """Run the load by hand, as any user of Locust would, and read its raw file."""
    rows, raw = place.workdir / "rows.json", place.workdir / "raw.parquet"
    rows.write_text(json.dumps([{"tenure": number} for number in range(100)]))
    raw.unlink(missing_ok=True)
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--only-summary"]
    command += _words(
        host=f"http://127.0.0.1:{port}", rows_file=rows, raw_file=raw, rate=rate_per_s, duration=duration_s, users=1,
        max_in_flight=int(rate_per_s),
    )  # fmt: skip
    log = place.workdir / "locust.log"
    with log.open("wb") as output:
        done = subprocess.run(
            command, cwd=place.settings.root, env=place.child_environ, stdout=output, stderr=output, check=False
        )
    if not raw.exists():
        tail = log.read_text(errors="replace")[-500:]
        raise SlipwayError(f"Locust ended with {done.returncode} and no raw file: {tail}", next="fix what it names")
    return _read(raw)


def _words(**options: Any) -> Sequence[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]


def _read(raw: Path) -> Sent:
    table = pq.read_table(raw)
    (window,) = json.loads(table.schema.metadata[b"slipway.windows"])
    intended_s, sent_s = (table[name].to_numpy() for name in ("intended_s", "sent_s"))
    in_time = int((sent_s <= window["measured_until_s"]).sum())
    return Sent(
        lag_ms=(sent_s - intended_s) * 1000,
        latency_ms=table["latency_ms"].to_numpy(),
        achieved=in_time / max(1, window["planned"]),
        cpu=window["cpu"],
    )
