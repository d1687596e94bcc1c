"""What the dispatcher of an open model does when it is held up."""

import json
import subprocess
import sys

import pytest

from pipelines.settings.settings import ROOT


def test_what_is_due_at_the_end_is_sent_a_moment_after_it_but_not_long_after() -> None:
    command = [sys.executable, "-m", "tests.support.world.held_up", "0.1", "1.0"]
    told = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=60).stdout)
    assert [each["planned"] for each in told] == pytest.approx([60, 60], abs=1)
    assert [each["sent"] == each["planned"] for each in told] == [True, False]
    assert told[1]["sent"] > told[1]["planned"] / 2
