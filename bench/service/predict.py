"""How many single predictions a replica answers in a second, against the floor of the same worker."""

from pathlib import Path
from statistics import median

from bench.service.echo import running_echo
from bench.service.replica_process import running_replica
from bench.service.trained import make_bundles
from bench.service.wrk import WrkRun, require_wrk, run_wrk, write_rows
from bench.support.measured import Bound, Limit, Measured
from bench.support.place import Place

CONNECTIONS = (16, 1)
ROUNDS = 3
WARM_UP_S = 2
ROUND_S = 5


def measure(place: Place) -> Measured:
    """Run wrk against one replica and the echo in turn; the median round counts."""
    require_wrk()
    [bundle] = make_bundles(place, 1)
    rows_file = place.workdir / "rows.jsonl"
    write_rows(rows_file, bundle.rows)
    runs: dict[tuple[str, int], list[WrkRun]] = {}
    with running_replica(place, bundle) as replica, running_echo(place) as echo_port:
        ports = {"predict": replica.port, "echo": echo_port}
        for port in ports.values():
            run_wrk(port, rows_file, connections=max(CONNECTIONS), duration_s=WARM_UP_S)
        for connections in CONNECTIONS:
            for _ in range(ROUNDS):
                for name, port in ports.items():
                    found = _round(place, name, port, rows_file, connections=connections)
                    runs.setdefault((name, connections), []).append(found)
    return _measured(runs, len(bundle.rows))


def _round(place: Place, name: str, port: int, rows_file: Path, *, connections: int) -> WrkRun:
    found = run_wrk(port, rows_file, connections=connections, duration_s=ROUND_S)
    place.report_progress(f"{name} c={connections}: {found.req_per_s:,.0f} req/s, p99 {found.p99_ms:.2f} ms")
    return found


def _measured(runs: dict[tuple[str, int], list[WrkRun]], rows: int) -> Measured:
    figures: dict[str, float] = {}
    for (name, connections), found in runs.items():
        figures[f"{name}_c{connections}_req_per_s"] = median(run.req_per_s for run in found)
        figures[f"{name}_c{connections}_p50_ms"] = median(run.p50_ms for run in found)
        figures[f"{name}_c{connections}_p99_ms"] = median(run.p99_ms for run in found)
    for connections in CONNECTIONS:
        floor = figures[f"echo_c{connections}_req_per_s"]
        figures[f"ratio_to_echo_c{connections}"] = figures[f"predict_c{connections}_req_per_s"] / floor
    return Measured(
        about=f"wrk -t1 posts {rows} evaluation rows in turn to one replica, {ROUNDS} rounds of {ROUND_S} s"
        " alternating with a raw ASGI echo in the same worker; medians",
        figures=figures,
        limits=(Limit("predict_c16_req_per_s", Bound.AT_LEAST, 5000),),
        samples={f"{name}_c{c}_req_per_s": [run.req_per_s for run in found] for (name, c), found in runs.items()},
    )
