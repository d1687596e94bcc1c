"""The catalogue of faults names tests, scenarios and benchmarks that exist, and says of each row what is not shown."""

import ast
from functools import cache

import pytest

from bench import MODULES
from bench.faults.catalogue import Row, Standing, describe_faults, read_catalogue
from bench.faults.faults import SCENARIOS, chosen
from bench.faults.scenario import Scenario
from pipelines.errors import UsageError
from pipelines.settings.settings import ROOT

CATALOGUE = read_catalogue()


@pytest.mark.parametrize("row", CATALOGUE.rows, ids=lambda row: row.name[:60])
def test_what_injects_a_fault_exists(row: Row) -> None:
    missing = [test for test in row.tests if test.partition("::")[2] not in functions(test.partition("::")[0])]
    assert missing == []
    assert set(row.benchmarks) <= set(MODULES)
    assert set(row.scenarios) <= {scenario.name for scenario in SCENARIOS}


@pytest.mark.parametrize("row", CATALOGUE.rows, ids=lambda row: row.name[:60])
def test_a_row_that_is_not_held_says_what_is_missing_and_a_held_one_what_injects_it(row: Row) -> None:
    assert (row.standing is not Standing.HELD) == bool(row.gap)
    if row.standing is Standing.HELD:
        assert row.tests or row.scenarios or row.benchmarks


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario_stands_in_the_catalogue(scenario: Scenario) -> None:
    assert any(scenario.name in row.scenarios for row in CATALOGUE.rows)


def test_scenarios_are_chosen_by_a_part_of_their_name() -> None:
    assert [scenario.name for scenario in chosen("random")] == ["executor killed at random"]
    assert [scenario.name for scenario in chosen("random,audit")] == ["executor killed at random", "audit edited"]
    assert chosen("") == list(SCENARIOS)
    with pytest.raises(UsageError, match="no scenario has 'flood' in its name"):
        chosen("flood")


def test_every_fault_and_every_attack_is_shown_once() -> None:
    assert (len(CATALOGUE.faults), len(CATALOGUE.attacks)) == (28, 16)
    assert len({row.name for row in CATALOGUE.rows}) == len(CATALOGUE.rows)
    page = describe_faults()
    assert all(page.count(f"\n| {row.name} | ") == 1 for row in CATALOGUE.rows)


@cache
def functions(file: str) -> set[str]:
    """Return the names of the test functions of a file, or none if there is no such file."""
    path = ROOT / file
    if not path.is_file():
        return set()
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}
