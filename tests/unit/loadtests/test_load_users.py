"""What the dispatcher of an open model does when it is held up."""

import json
import subprocess
import sys

import pytest

from pipelines.settings.settings import ROOT


@pytest.mark.parametrize(("late_s", "all_sent"), [(0.1, True), (1.0, False)])
def test_what_is_due_at_the_end_is_sent_a_moment_after_it_but_not_long_after(late_s: float, all_sent: bool) -> None:
    command = [sys.executable, "-m", "tests.support.world.held_up", str(late_s)]
    told = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout)
    assert told["planned"] == pytest.approx(60, abs=1)
    assert (told["sent"] == told["planned"]) is all_sent
    assert told["sent"] > told["planned"] / 2
