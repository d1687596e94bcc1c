"""New data for a known model: what it changes for clients, and on which rows it is compared with what they use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines import commands
from pipelines.adapters.database.records import now
from pipelines.cli.api_verbs import _standing
from pipelines.domain.bundle import Feature, FeatureType, Schema, shared_requests
from pipelines.domain.promotion import RunState
from pipelines.domain.records import Approval, Evaluation
from pipelines.domain.report import Report
from pipelines.evaluation.gates.bundle.schema import Schemas, judge
from pipelines.evaluation.gates.gate import NoLimits
from pipelines.evaluation.gates.offline.asking import completed, taken
from pipelines.evaluation.gates.registry import GATES
from pipelines.evaluation.reports.pages import render_html
from pipelines.packaging.snapshot import read_snapshot
from pipelines.packaging.training_rows import TrainingRows
from pipelines.releases.promote import release_promotion
from pipelines.training.workspace import Workspace
from tests.support.world.trained import EVALUATION_ROWS, STAGES, describe, plants, workspace
from tests.support.world.world import MODEL, World, policy_body

REASON = "the sensor of the pots was removed"
TYPES = {"number": "double", "integer": "long", "category": "string"}


def retrained(root: Path, frame: pd.DataFrame, features: dict[str, Any]) -> Workspace:
    made = workspace(root, frame, features=features, protected=[])
    for stage in STAGES:
        stage(made)
    return made


@pytest.fixture(scope="module")
def wider(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """More rows, a column that may be missing, and a kind of soil that nobody had before."""
    frame = plants(440)
    frame.loc[frame.index[::9], "soil"] = "peat"
    frame["width"] = [str(number / 7) if number % 3 else "" for number in range(len(frame))]
    features = describe("")["features"] | {"width": {"type": "number", "nullable": True}}
    return retrained(tmp_path_factory.mktemp("wider"), frame, features)


@pytest.fixture(scope="module")
def narrower(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same rows without one of the columns."""
    features = {name: rule for name, rule in describe("")["features"].items() if name != "potted"}
    return retrained(tmp_path_factory.mktemp("narrower"), plants().drop(columns="potted"), features)


def registered(world: World, tree: Workspace, tmp_path: Path, **tags: str) -> str:
    description = read_snapshot(tree.train).description
    TrainingRows.of(read_snapshot(tree.train)).write(tmp_path / "rows")
    artifacts = {"evaluation": tree.evaluation, "predictions": tree.predictions, "training-rows": tmp_path / "rows"}
    return world.registry.register(
        MODEL,
        onnx=tree.onnx_model.read_bytes(),
        input_types={each.name: TYPES[each.type] for each in description.features},
        artifacts={f"slipway/{name}.parquet": path.read_bytes() for name, path in artifacts.items()},
        run_tags=tags,
    ).version


def gates(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    assert evaluation.report is not None
    return {gate["name"]: gate for gate in evaluation.report["gates"]}


def test_a_new_column_and_a_new_category_are_compared_on_the_rows_that_production_takes(
    world: World, wider: Workspace, tmp_path: Path
) -> None:
    world.promoted(world.register())
    evaluation = world.evaluated(registered(world, wider, tmp_path))
    assert evaluation.verdict == "passed", evaluation.error
    found = gates(evaluation)
    assert found["schema"]["message"] == "PASS schema: accepts all that production accepts"
    frame = read_snapshot(wider.evaluation).frame
    strange = int((frame["soil"] == "peat").sum())
    assert strange > 0
    said = f", on {len(frame) - strange} of {len(frame)} rows ({strange} are none that production takes), margin"
    assert said in found["comparison"]["message"]
    # Grown data moves no row: what the champion was trained on is not among those that evaluate.
    assert found["training_rows.champion"]["observed"] == 0
    assert {tuple(row) for row in world.loads.rows} == {("height", "age", "potted", "soil")}
    assert "comparison" in world.loads.plans[-1]
    assert {row["soil"] for row in world.loads.rows} == {"clay", "loam", "sand"}


def test_what_breaks_clients_is_stopped_and_says_how_to_declare_it(
    world: World, narrower: Workspace, tmp_path: Path
) -> None:
    world.promoted(world.register())
    evaluation = world.evaluated(registered(world, narrower, tmp_path))
    assert (evaluation.state, evaluation.verdict, world.serving()) == (RunState.STOPPED, "failed", "1")
    assert evaluation.error is not None
    assert "FAIL: schema: feature potted is gone, and unknown fields are refused" in evaluation.error["message"]
    assert 'schema: {change: breaking, reason: "..."}' in evaluation.error["next"]
    assert evaluation.report is not None
    assert "breaking" not in evaluation.report


def test_what_is_declared_to_break_clients_reaches_production_by_an_approval_that_names_it(
    world: World, narrower: Workspace, tmp_path: Path
) -> None:
    world.promoted(world.register())
    version = registered(world, narrower, tmp_path, **{"slipway.schema.breaking": REASON})
    promotion = world.approved(version)
    # The old schema is served until it is released.
    assert world.serving() == "1"
    evaluation = world.records.get(Evaluation, promotion.evaluation_id)
    assert evaluation.report is not None
    change = "feature potted is gone, and unknown fields are refused"
    assert evaluation.report["breaking"] == {"reason": REASON, "changes": [change]}
    told = f"PASS schema: breaks clients, as declared ({REASON}): {change}"
    assert gates(evaluation)["schema"]["message"] == told
    # No request of the one is a request of the other, so they are not loaded in turn.
    unlike = "slo.p99_ratio: no request suits production's schema as well"
    assert gates(evaluation)["slo.p99_ratio"]["message"] == unlike
    assert "comparison" not in world.loads.plans[-1]
    page = render_html(Report.read(evaluation.report), evaluation.report_digest or "")
    assert f"Breaks clients of version 1, as declared: {REASON}" in page
    asked = {"requested_by": "alice", "version": version, "environment": "production", "override_gates": []}
    shown = _standing(asked, evaluation.report)
    assert shown.endswith(f"in place of v1, BREAKING ITS CLIENTS ({change}): {REASON}")
    (approval,) = world.records.find(Approval, promotion_id=promotion.id)
    (entry,) = [each for each in world.records.audited(promotion.id) if each.action == "promotion.approve"]
    assert (approval.person, entry.detail["breaking"]) == ("bob", REASON)

    release_promotion(world.services, promotion.id, world.step)
    assert world.serving() == version


def test_without_a_column_that_production_needs_both_are_compared_on_the_set_it_was_judged_by(
    world: World, narrower: Workspace, tmp_path: Path
) -> None:
    first = world.promoted(world.register())
    known = world.records.get(Evaluation, first.evaluation_id).report or {}
    evaluation = world.evaluated(registered(world, narrower, tmp_path, **{"slipway.schema.breaking": REASON}))
    assert evaluation.report is not None
    assert (known["evalset_number"], evaluation.report["evalset_number"]) == (1, 2)
    assert evaluation.report["evalset_version"] == "2"
    said = (
        f", on the {EVALUATION_ROWS} rows of the set that production was judged by ({known['evalset_digest']}), margin"
    )
    assert said in gates(evaluation)["comparison"]["message"]


def test_a_policy_may_name_the_set_that_all_versions_are_judged_by(
    world: World, wider: Workspace, tmp_path: Path
) -> None:
    first = world.promoted(world.register())
    known = (world.records.get(Evaluation, first.evaluation_id).report or {})["evalset_digest"]
    body = policy_body()
    body["evaluation"]["set"] = known
    commands.request_policy(world.records, person="alice", model=MODEL, policy=GATES.read_policy(body), now=now())
    world.round()
    evaluation = world.evaluated(registered(world, wider, tmp_path))
    assert evaluation.verdict == "passed", evaluation.error
    assert evaluation.report is not None
    assert [evaluation.report[f"evalset_{key}"] for key in ("digest", "number", "version")] == [known, 1, "1"]
    found = gates(evaluation)
    assert (
        f"it was trained on none of the {EVALUATION_ROWS} evaluation rows"
        in found["training_rows.candidate"]["message"]
    )
    # The training's own predictions are of the version's own rows.
    assert found["parity"]["verdict"] == "passed"

    body["evaluation"]["set"] = "sha256:" + "0" * 64
    commands.request_policy(world.records, person="alice", model=MODEL, policy=GATES.read_policy(body), now=now())
    world.round()
    refused = world.evaluated(registered(world, wider, tmp_path))
    assert refused.error is not None
    assert "the policy's evaluation set sha256:000" in refused.error["message"]


def test_a_declaration_holds_for_one_change_alone() -> None:
    one, other = Schema((Feature("a", FeatureType.NUMBER),), (), None), Schema((), (), None)
    verdicts = {
        (declared, former): judge(Schemas(one, other, declared, former), NoLimits())[0].verdict
        for declared, former in ((None, None), ("a", None), ("a", "a"), ("b", "a"))
    }
    assert list(verdicts.values()) == ["failed", "passed", "failed", "passed"]
    assert judge(Schemas(one, one, "a", "a"), NoLimits())[0].verdict == "passed"


def test_a_reason_that_nobody_could_read_is_refused(world: World, narrower: Workspace, tmp_path: Path) -> None:
    evaluation = world.evaluated(registered(world, narrower, tmp_path, **{"slipway.schema.breaking": "a\u202eb"}))
    assert evaluation.error is not None
    assert "slipway.schema.breaking of version 1 of plant-model can't be shown" in evaluation.error["message"]


@dataclass(frozen=True)
class Taken:
    """A value of a feature, and whether a request may carry it."""

    feature: Feature
    value: Any
    right: bool


COUNT = Feature("x", FeatureType.INTEGER, minimum=0, maximum=9)
WEIGHT = Feature("x", FeatureType.NUMBER, nullable=True)
SOIL = Feature("x", FeatureType.CATEGORY, categories=("clay", "loam"))
NOTE = Feature("x", FeatureType.TEXT, maximum_length=3)
TAKEN = [
    Taken(COUNT, 0, True),
    Taken(COUNT, 9, True),
    Taken(COUNT, 10, False),
    Taken(COUNT, -1, False),
    Taken(COUNT, 1.5, False),
    Taken(COUNT, 2.0, True),
    Taken(COUNT, None, False),
    Taken(WEIGHT, None, True),
    Taken(WEIGHT, -1e9, True),
    Taken(WEIGHT, "x", False),
    Taken(SOIL, "clay", True),
    Taken(SOIL, "peat", False),
    Taken(SOIL, None, False),
    Taken(NOTE, "abc", True),
    Taken(NOTE, "abcd", False),
    Taken(Feature("x", FeatureType.BOOLEAN), True, True),
    Taken(Feature("x", FeatureType.DATE), "2025-01-31", True),
]


@pytest.mark.parametrize("case", TAKEN, ids=lambda case: f"{case.feature.type}-{case.value}")
def test_a_request_and_a_row_are_taken_by_the_same_rule(case: Taken) -> None:
    assert case.feature.takes(case.value) is case.right
    assert taken(pd.DataFrame({"x": [case.value]}), [case.feature]).tolist() == [case.right]


def test_what_a_row_lacks_is_missing_where_it_may_be() -> None:
    frame = completed(pd.DataFrame({"y": [1, 2]}), [WEIGHT])
    assert taken(frame, [WEIGHT]).all()
    assert shared_requests([{"a": 1, "x": 2}], [Feature("a", FeatureType.INTEGER), COUNT], [COUNT]) == []
    optional = Feature("a", FeatureType.INTEGER, nullable=True)
    assert shared_requests([{"a": 1, "x": 2}, {"x": 11}], [optional, COUNT], [COUNT, WEIGHT_OF_NOTHING]) == [{"x": 2}]


WEIGHT_OF_NOTHING = Feature("w", FeatureType.NUMBER, nullable=True)
