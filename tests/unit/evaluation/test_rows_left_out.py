"""Rows that the candidate or the champion was trained on judge neither, and what is unknown is held for a person."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.domain.bundle import digest_of
from pipelines.domain.promotion import Override, RunState
from pipelines.domain.records import Evaluation
from pipelines.domain.report import Report
from pipelines.evaluation.gates.registry import GATES
from pipelines.evaluation.reports.pages import render_html
from pipelines.packaging.snapshot import Snapshot, read_snapshot
from pipelines.packaging.training_rows import TrainingRows
from tests.support.world.trained import EVALUATION_ROWS
from tests.support.world.world import MODEL, World, policy_body

ROWS = EVALUATION_ROWS
ACCEPTED = Override(frozenset({"training_rows"}), "trained in a notebook that nobody has any more")


def trained_on(home: Path, tmp_path: Path, *, evaluation_rows: int) -> bytes:
    """Return what a version logs that was trained on the training rows, and on so many of those that evaluate."""
    snapshots = [read_snapshot(home / f"data/snapshots/{name}.parquet") for name in ("train", "evaluation")]
    parts = [snapshots[0], _first(snapshots[1], evaluation_rows)]
    both = replace(
        parts[0],
        frame=pd.concat([part.frame for part in parts]),
        identities=pd.concat([pd.Series(part.identities) for part in parts]).to_numpy(),
    )
    TrainingRows.of(both).write(tmp_path / "rows")
    return (tmp_path / "rows").read_bytes()


def _first(snapshot: Snapshot, rows: int) -> Snapshot:
    assert snapshot.identities is not None
    return replace(snapshot, frame=snapshot.frame.head(rows), identities=snapshot.identities[:rows])


def gates(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    assert evaluation.report is not None
    return {gate["name"]: gate for gate in evaluation.report["gates"]}


def test_rows_that_the_champion_was_trained_on_are_left_out_and_counted(
    world: World, plants_home: Path, tmp_path: Path
) -> None:
    world.promoted(world.register(training_rows=trained_on(plants_home, tmp_path, evaluation_rows=40)))
    evaluation = world.evaluated(world.register())
    found = gates(evaluation)
    told = f"training_rows.champion: 40 of {ROWS} evaluation rows are ones that it was trained on, and left out"
    assert found["training_rows.champion"]["message"] == f"PASS {told}"
    assert found["training_rows.champion"]["observed"] == 40
    none = f"PASS training_rows.candidate: it was trained on none of the {ROWS} evaluation rows"
    assert found["training_rows.candidate"]["message"] == none
    assert f", on {ROWS - 40} of {ROWS} rows, margin" in found["comparison"]["message"]
    assert evaluation.report is not None
    page = render_html(Report.read(evaluation.report), evaluation.report_digest or "")
    assert told in page


def test_rows_that_the_candidate_was_trained_on_judge_it_in_no_gate(
    world: World, plants_home: Path, tmp_path: Path
) -> None:
    world.promoted(world.register())
    plain = gates(world.evaluated(world.register()))
    leaking = gates(
        world.evaluated(world.register(training_rows=trained_on(plants_home, tmp_path, evaluation_rows=70)))
    )
    assert leaking["training_rows.candidate"]["observed"] == 70
    assert f", on {ROWS - 70} of {ROWS} rows, margin" in leaking["comparison"]["message"]
    right = round(leaking["accuracy"]["observed"] * (ROWS - 70), 6)
    assert right == int(right)
    assert leaking["accuracy"]["observed"] != plain["accuracy"]["observed"]


def test_too_few_rows_that_are_left_decide_nothing(world: World, plants_home: Path, tmp_path: Path) -> None:
    world.promoted(world.register())
    left = 29
    version = world.register(training_rows=trained_on(plants_home, tmp_path, evaluation_rows=ROWS - left))
    evaluation = world.evaluated(version)
    assert (evaluation.state, evaluation.verdict) == (RunState.STOPPED, "inconclusive")
    found = gates(evaluation)
    assert found["accuracy"]["verdict"] == found["comparison"]["verdict"] == "inconclusive"
    assert "on 29 evaluation rows, fewer than 30" in found["accuracy"]["message"]
    why = f"on 29 evaluation rows, fewer than 30: {ROWS} less those left out, of which production takes 0 as no request"
    assert found["comparison"]["message"] == f"INCONCLUSIVE: comparison: {why}"
    assert evaluation.error is not None
    assert evaluation.error["code"] == "inconclusive"


@pytest.mark.parametrize("whose", ["candidate", "champion"])
def test_a_version_that_does_not_say_what_it_was_trained_on_is_held_for_a_person(world: World, whose: str) -> None:
    if whose == "champion":
        world.promoted(world.register(training_rows=None), ACCEPTED)
    version = world.register(**({"training_rows": None} if whose == "candidate" else {}))
    evaluation = world.evaluated(version)
    assert (evaluation.state, evaluation.verdict) == (RunState.STOPPED, "inconclusive")
    assert evaluation.error is not None
    unknown = f"INCONCLUSIVE: training_rows.{whose}: unknown which of the {ROWS} evaluation rows it was trained on"
    assert evaluation.error["message"] == f"{unknown}, so none could be left out"
    assert world.serving() == ("1" if whose == "champion" else None)

    promotion = world.promoted(version, ACCEPTED)
    assert (promotion.state, world.serving()) == (RunState.DONE, version)


def test_a_policy_may_accept_what_is_unknown_and_the_report_still_says_so(world: World) -> None:
    body = policy_body()
    body["gates"]["training_rows"]["unknown"] = "accept"
    commands.request_policy(world.records, person="alice", model=MODEL, policy=GATES.read_policy(body), now=now())
    world.round()
    evaluation = world.evaluated(world.register(training_rows=None))
    assert (evaluation.state, evaluation.verdict) == (RunState.DONE, "passed")
    assert "unknown which of the" in gates(evaluation)["training_rows.candidate"]["message"]


def test_the_champions_rows_are_those_that_were_pinned_whatever_its_run_holds_later(
    world: World, plants_home: Path, tmp_path: Path
) -> None:
    first = world.register(training_rows=trained_on(plants_home, tmp_path, evaluation_rows=40))
    world.promoted(first)
    world.registry.forget_artifact(world.registry.version(MODEL, first), "slipway/training-rows.parquet")
    found = gates(world.evaluated(world.register()))
    assert found["training_rows.champion"]["observed"] == 40

    for kept in (world.services.workdir / "evaluation-sets").glob("*.rows"):
        kept.write_bytes(b"another")
    found = gates(world.evaluated(world.register()))
    assert found["training_rows.champion"]["verdict"] == "inconclusive"


def test_a_file_that_is_not_the_one_that_its_run_names_is_refused(world: World) -> None:
    version = world.register(**{"slipway.dataset.training_rows": digest_of(b"other")})
    evaluation = world.evaluated(version)
    assert evaluation.error is not None
    assert "slipway/training-rows.parquet of version 1 is not the one its run names" in evaluation.error["message"]


def test_rows_that_are_logged_after_the_pin_say_nothing_of_a_version(world: World) -> None:
    version = world.register(training_rows=None)
    assert world.evaluated(version).verdict == "inconclusive"
    run = world.registry.version(MODEL, version).run_id
    other = world.register()
    logged = world.registry.fetch_artifact(
        world.registry.version(MODEL, other).run_id, "slipway/training-rows.parquet", world.services.workdir / "x"
    )
    assert logged is not None
    world.registry.log_artifact(run, "slipway/training-rows.parquet", logged.read_bytes())
    assert world.evaluated(version).verdict == "inconclusive"


def test_a_file_of_training_rows_that_can_not_be_read_is_refused_at_packaging(world: World) -> None:
    evaluation = world.evaluated(world.register(training_rows=b"no parquet"))
    assert evaluation.error is not None
    assert "training-rows.parquet does not say which rows a version was trained on" in evaluation.error["message"]
