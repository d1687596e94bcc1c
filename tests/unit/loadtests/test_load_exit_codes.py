"""A program that ran a load says by its exit code whether a version may go on."""

from loadtests.judge.verdict import Verdict
from loadtests.run import EXIT_CODES


def test_only_a_pass_ends_with_0_and_no_evidence_is_not_a_no() -> None:
    assert EXIT_CODES == {Verdict.PASSED: 0, Verdict.FAILED: 3, Verdict.INCONCLUSIVE: 4, Verdict.ERROR: 4}
