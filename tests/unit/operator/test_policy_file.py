from pathlib import Path

import pytest

from pipelines.errors import PolicyInvalid
from pipelines.operator.policy_file import read_policy_file


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gates: {accuracy: {minimum: 0.78, minimum: 0.1}}", "'minimum' is given twice"),
        ("a: 1\nb: 2\na: 1\n", "'a' is given twice"),
        ("- 1\n", "holds no policy"),
        ("a: [1\n", "can't be read"),
        ("a: !!python/object/apply:os.getcwd []\n", "can't be read"),
        ("\x00", "can't be read"),
    ],
)
def test_a_policy_file_that_can_be_read_in_two_ways_or_in_none_is_refused(text: str, says: str, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(PolicyInvalid, match=says):
        read_policy_file(file)


def test_a_policy_file_is_read_as_plain_values(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("a: {b: 1, c: [x, 2.5]}\nd: no\n")
    assert read_policy_file(file) == {"a": {"b": 1, "c": ["x", 2.5]}, "d": False}
