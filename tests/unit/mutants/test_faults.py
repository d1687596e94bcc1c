"""The seeded faults fit the code as it is, and leave no folder and no gate out."""

import ast
from collections import Counter

import pytest

from pipelines.evaluation.gates.registry import GATES
from tests.mutants.faults import ROOT, Fault, read_faults

FAULTS = read_faults()
PACKAGES = ("app", "loadtests", "pipelines", "slipway")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name[:80])
def test_a_fault_stands_in_its_file_once_and_is_python(fault: Fault) -> None:
    ast.parse(fault.seeded((ROOT / fault.file).read_text(encoding="utf-8")))
    assert fault.tests
    assert [test for test in fault.tests if not (ROOT / test).exists()] == []


def test_there_are_at_least_sixty_and_none_twice() -> None:
    assert len(FAULTS) >= 60
    assert [fault for fault, count in Counter(FAULTS).items() if count > 1] == []


def test_every_folder_with_code_has_a_fault() -> None:
    modules = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if path.name != "__init__.py")
    folders = {str(path.parent.relative_to(ROOT)) for path in modules}
    assert folders - {fault.file.rpartition("/")[0] for fault in FAULTS} == set()


def test_every_gate_has_a_fault_in_its_own_file() -> None:
    judges = {gate.name: gate.judge.__module__.replace(".", "/") + ".py" for gate in GATES.all}
    assert {name: file for name, file in judges.items() if file not in {fault.file for fault in FAULTS}} == {}
