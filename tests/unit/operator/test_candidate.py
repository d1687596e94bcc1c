"""What training says and how it ends when a stage refuses: DVC itself ends with a code of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.errors import SlipwayError, UsageError
from pipelines.operator.candidate import train_and_register
from pipelines.settings.settings import ROOT, Settings


@pytest.mark.parametrize(("code", "kind"), [(2, UsageError), (1, SlipwayError)])
def test_a_stage_that_ends_says_why_and_gives_its_exit_code(
    tmp_path: Path, code: int, kind: type[SlipwayError]
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(ROOT / "model.yaml", project)
    (project / "dvc.yaml").write_text(
        f"stages:\n  prepare:\n    cmd: echo a wrong row, $OMP_WAIT_POLICY >&2; exit {code}\n"
    )
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], cwd=project, check=True)
    settings = Settings.from_environ({"SLIPWAY_PROJECT": str(project), "SLIPWAY_HOME": str(tmp_path / "home")})
    told: list[str] = []

    with pytest.raises(kind) as refused:
        train_and_register(settings, os.environ, told.append)

    assert refused.value.exit_code == code
    assert "a wrong row, PASSIVE" in told
    assert refused.value.next == "fix what is named above"
