"""What `up` and `down` do with processes that are recorded in the home by another name than today's."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipelines.adapters.local.installation import LocalInstallation, Part
from pipelines.settings.settings import Settings


class Nothing(LocalInstallation):
    """An installation that has no parts of its own."""

    def parts(self) -> list[Part]:
        """Return none."""
        return []


@pytest.fixture
def former(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that an earlier Slipway started, as its home records it."""
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    (tmp_path / "run").mkdir()
    recorded = {"supervisor-staging": (process.pid, psutil.Process(process.pid).create_time())}
    (tmp_path / "run" / "processes.json").write_text(json.dumps(recorded))
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("verb", ["up", "down"])
def test_what_an_earlier_slipway_started_is_ended(former: "subprocess.Popen[bytes]", tmp_path: Path, verb: str) -> None:
    told: list[str] = []
    installation = Nothing(Settings.from_environ({"SLIPWAY_HOME": str(tmp_path)}), {}, lambda pid: True)
    getattr(installation, verb)(told.append)
    assert not psutil.pid_exists(former.pid)
    assert "stopping supervisor-staging" in told[0]
    assert installation.running() == {}
