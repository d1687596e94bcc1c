"""How soon a replica is ready, and how much memory it holds."""

from statistics import median

from bench.service.replica_process import post_rows, pss_mb, running_replica
from bench.service.trained import make_bundles
from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place

RUNS = 5
REQUESTS = 1000


def measure(place: Place) -> Measured:
    """Start a replica five times; its slowest start and its largest memory are judged."""
    [bundle] = make_bundles(place, 1)
    ready_s: list[float] = []
    worker_mb: list[float] = []
    sum_mb: list[float] = []
    for _ in range(RUNS):
        with running_replica(place, bundle) as replica:
            post_rows(replica.port, bundle, REQUESTS)
            ready_s.append(replica.ready_s)
            worker_mb.append(pss_mb(replica.worker_pid))
            sum_mb.append(worker_mb[-1] + pss_mb(replica.master_pid))
        place.report_progress(f"ready after {ready_s[-1]:.3f} s, {sum_mb[-1]:.1f} MB")
    return Measured(
        about=f"a replica is started {RUNS} times; time from its spawn until it confirms itself on its private"
        f" socket, and proportional set size after {REQUESTS} requests (worker; worker and gunicorn master)",
        figures={
            "ready_min_s": min(ready_s),
            "ready_median_s": median(ready_s),
            "ready_max_s": max(ready_s),
            "memory_worker_max_mb": max(worker_mb),
            "memory_max_mb": max(sum_mb),
        },
        limits=(
            Limit("ready_max_s", Bound.AT_MOST, 1),
            Limit("memory_max_mb", Bound.AT_MOST, 120),
        ),
        samples={"ready_s": ready_s, "memory_mb": sum_mb},
    )
