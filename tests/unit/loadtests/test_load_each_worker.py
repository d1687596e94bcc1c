"""What several workers measured, from raw files of clocks that have nothing to do with each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from loadtests.generator.recording import Recording, Sample
from loadtests.judge import validity
from loadtests.judge.stall import longest_stall
from loadtests.judge.verdict import Verdict
from loadtests.report.windows import windows_of
from loadtests.samples import Look, read_look, read_turns
from loadtests.study.simulation import plan_of

RATE_PER_S, WARMUP_S, MEASURED_S = 50, 1.0, 10.0
ALLOWED_MS = validity.lag_allowed_ms(plan_of())
# What two machines show at the same moment: one was started yesterday, the other last year.
CLOCKS_S = (86_400.0, 31_536_000.0)


def raw_file(
    directory: Path, number: int, *, clock_s: float, turns: int = 1, late_ms: Any = 0.0, **latency_model: Any
) -> Path:
    """Leave what a worker sends whose own clock shows `clock_s`, with `late_ms` of send lag for each request."""
    recording = Recording(directory / "unused.parquet", turns)
    for turn in range(turns):
        start_s = clock_s + turn * 2 * (WARMUP_S + MEASURED_S)
        due_s = start_s + np.arange(int((WARMUP_S + MEASURED_S) * RATE_PER_S)) / RATE_PER_S
        for due, late in zip(due_s, np.broadcast_to(late_ms, len(due_s)), strict=True):
            latency_ms = latency_model.get("latency_ms", lambda since_s: 2.0)(due - start_s - WARMUP_S) + late
            sample = Sample(due, due + late / 1000, latency_ms, 200, "6", "", "/predict", "single", turn)
            recording.on_request(context={"sample": sample})
        recording.end(
            turn,
            measured_from_s=start_s + WARMUP_S,
            measured_until_s=start_s + WARMUP_S + MEASURED_S,
            planned=int(MEASURED_S * RATE_PER_S),
        )
    file = directory / f"look1-worker{number}.parquet"
    file.write_bytes(recording.content())
    return file


def two_machines(directory: Path, *, clocks_s: tuple[float, float] = CLOCKS_S, **options: Any) -> Look:
    return read_look([raw_file(directory, number, clock_s=each, **options) for number, each in enumerate(clocks_s)])


# With clocks 1.5 s apart, half of the freeze on one machine would hide in what the other heard.
@pytest.mark.parametrize("clocks_s", [CLOCKS_S, (1000.0, 1001.5)])
def test_a_freeze_that_machines_of_different_clocks_see_is_one_stall(
    tmp_path: Path, clocks_s: tuple[float, float]
) -> None:
    def frozen_from_4_to_7_s(since_s: float) -> float:
        return max(2.0, (7 - since_s) * 1000) if since_s >= 4 else 2.0

    look = two_machines(tmp_path, clocks_s=clocks_s, latency_ms=frozen_from_4_to_7_s)
    stall = longest_stall([look])

    assert stall.length_s == pytest.approx(3, abs=0.05)
    assert stall.after_s == pytest.approx(4, abs=0.05)


def test_what_machines_measured_adds_up_without_their_warm_ups(tmp_path: Path) -> None:
    look = two_machines(tmp_path)

    assert look.duration_s == pytest.approx(MEASURED_S)
    assert len(look.latency_ms) == look.window.planned == 2 * MEASURED_S * RATE_PER_S
    assert [len(worker.latency_ms) for worker in look.workers] == [MEASURED_S * RATE_PER_S] * 2
    assert 0 <= look.intended_s.min() <= look.intended_s.max() < MEASURED_S
    assert {row.rate_per_s for row in windows_of(plan_of(rate_per_s=2 * RATE_PER_S), [look])} == {2 * RATE_PER_S}


def test_each_turn_counts_from_its_own_start(tmp_path: Path) -> None:
    files = [raw_file(tmp_path, number, clock_s=clock_s, turns=3) for number, clock_s in enumerate(CLOCKS_S)]

    looks = read_turns(files)

    assert [len(look.latency_ms) for look in looks] == [2 * MEASURED_S * RATE_PER_S] * 3
    assert all(0 <= look.intended_s.min() <= look.intended_s.max() < MEASURED_S for look in looks)


def test_the_raw_values_are_the_workers_own_but_for_the_start_of_their_times(tmp_path: Path) -> None:
    late_ms = np.random.default_rng(1).exponential(1.0, int((WARMUP_S + MEASURED_S) * RATE_PER_S))
    table = pq.read_table(raw_file(tmp_path, 0, clock_s=CLOCKS_S[1], late_ms=late_ms))

    assert table["latency_ms"].to_pylist() == (2.0 + late_ms).tolist()
    assert table["sent_s"].to_numpy() - table["intended_s"].to_numpy() == pytest.approx(late_ms / 1000, abs=1e-6)
    assert table["intended_s"].to_numpy()[0] == pytest.approx(-WARMUP_S)


def several(directory: Path, lates_ms: list[Any]) -> Look:
    return read_look([raw_file(directory, n, clock_s=1000.0 * n, late_ms=late) for n, late in enumerate(lates_ms)])


def test_one_late_worker_of_four_is_not_hidden_by_the_others(tmp_path: Path) -> None:
    requests = int((WARMUP_S + MEASURED_S) * RATE_PER_S)
    # 3 of a hundred requests, and less than one of a hundred of all workers'.
    late_ms = np.where(np.arange(requests) % 33 == 0, 50.0, 0.0)
    look = several(tmp_path, [0.0, 0.0, late_ms, 0.0])
    assert np.quantile((look.sent_s - look.intended_s) * 1000, 0.99) < 1

    lag = next(check for check in validity.generator_checks([[look]], ALLOWED_MS) if check.name == "send_lag")

    assert lag.verdict is Verdict.INCONCLUSIVE
    assert lag.observed == pytest.approx(50, abs=1)


def test_one_slow_machine_of_four_spoils_the_control_run(tmp_path: Path) -> None:
    requests = int((WARMUP_S + MEASURED_S) * RATE_PER_S)
    slow_ms = np.where(np.arange(requests) % 33 == 0, 60.0, 0.0)
    control = several(tmp_path, [0.0, slow_ms, 0.0, 0.0])
    assert np.quantile(control.latency_ms, 0.99) < 10

    check = validity.control_check(plan_of(), control)

    assert check.verdict is Verdict.INCONCLUSIVE
    assert "p99 of an empty endpoint 62.00 ms" in check.message


def test_one_worker_that_did_not_send_in_time_is_not_hidden_by_the_others(tmp_path: Path) -> None:
    requests = int((WARMUP_S + MEASURED_S) * RATE_PER_S)
    # The last 3 of a hundred were sent after the end.
    late_ms = np.where(np.arange(requests) >= requests - 15, 1000.0, 0.0)
    look = several(tmp_path, [0.0, 0.0, 0.0, late_ms])
    assert validity.achieved_sends([look]) / validity.planned_sends([look]) > validity.MIN_ACHIEVED

    achieved = next(check for check in validity.generator_checks([[look]], ALLOWED_MS) if check.name == "achieved_rate")

    assert achieved.verdict is Verdict.INCONCLUSIVE
    assert achieved.observed == pytest.approx(0.97)
