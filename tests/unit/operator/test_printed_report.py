"""Two reports beside one another: what they were not both measured by is said."""

from typing import Any

import pytest

from pipelines.domain.report import Report
from pipelines.operator.printed_report import compared_reports, printed_report
from tests.support.world.records import policy, release, report

GATES = f"sha256:{'a' * 64}"


def made(version: str, **changes: Any) -> Report:
    return Report.read(report(version, policy=policy())).model_copy(update={"gates_digest": GATES, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gates_digest": f"sha256:{'b' * 64}"}, "another code of the gates"),
        ({"gates_digest": None}, "another code of the gates"),
        (
            {"champion": Report.read(report(policy=policy(), champion=release("r-1", "1"))).champion},
            "another release to compare with",
        ),
        ({"evalset_digest": f"sha256:{'c' * 64}"}, "another evaluation set"),
    ],
)
def test_what_two_reports_were_not_both_measured_by_is_said(changes: dict[str, Any], said: str) -> None:
    assert "not measured alike" not in compared_reports(made("2"), made("1"))
    assert f"not measured alike: {said}\n" in compared_reports(made("2"), made("1", **changes))


def test_a_report_names_the_code_of_its_gates() -> None:
    assert f"gates           {GATES}" in printed_report(made("2"), "sha256:x")
    assert "gates           not recorded" in printed_report(made("2", gates_digest=None), "sha256:x")
