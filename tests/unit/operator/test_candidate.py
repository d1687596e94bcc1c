"""What training says and how it ends when a stage refuses: DVC itself ends with a code of its own."""

import hashlib
import os
from pathlib import Path

import pytest
import yaml

from pipelines.errors import Refused, SlipwayError, Undecided, UsageError
from pipelines.operator.candidate import train_and_register
from pipelines.settings.settings import Settings
from tests.support.world import trained

SOURCE = "raw/plants.csv"
PREPARE = "python -m pipelines.training.prepare"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A working tree with data, a model and a DVC of its own, whose stages each test writes."""
    project = tmp_path / "project"
    trained.workspace(project)
    (project / ".dvc").mkdir()
    (project / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n    remote = kept\n")
    with (project / ".dvc/config").open("a") as config:
        config.write(f"['remote \"kept\"']\n    url = {tmp_path / 'remote'}\n")
    return project


def refused(project: Path, command: str, told: list[str] | None = None) -> SlipwayError:
    """Train with one stage that refuses; return how it was refused, and all that was said before in `told`."""
    stages = {"prepare": {"cmd": command, "deps": [SOURCE]}}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    settings = Settings.from_environ({"SLIPWAY_PROJECT": str(project), "SLIPWAY_HOME": str(project / "home")})
    with pytest.raises(SlipwayError) as error:
        train_and_register(settings, os.environ, (told if told is not None else []).append)
    return error.value


@pytest.mark.parametrize(("code", "kind"), [(1, SlipwayError), (4, Undecided)])
def test_a_stage_that_ends_says_why_and_gives_its_exit_code(project: Path, code: int, kind: type[SlipwayError]) -> None:
    told: list[str] = []
    error = refused(project, f"echo a wrong row, $OMP_WAIT_POLICY >&2; exit {code}", told)
    assert (type(error), error.exit_code) == (kind, code)
    assert "a wrong row, PASSIVE" in told
    assert error.next == "fix what is named above"


def test_what_a_stage_of_slipways_refuses_is_said_once_in_its_own_words(project: Path) -> None:
    frame = trained.plants()
    frame.loc[2, "age"] = "old"
    frame.to_csv(project / SOURCE, index=False)
    told: list[str] = []
    error = refused(project, PREPARE, told)
    assert (type(error), error.exit_code) == (UsageError, 2)
    assert error.message == "raw/plants.csv: column age: 'old' in line 4 is not a number (decimal sign '.')"
    assert error.next == "correct the data, or declare in model.yaml what it means"
    assert not any("is not a number" in line for line in told)


def test_what_dvc_itself_refuses_is_no_bug(project: Path) -> None:
    assert refused(project, "echo ${nothing}").message == "dvc repro was refused by DVC itself"


def test_a_source_that_is_not_here_is_pulled_where_dvc_keeps_it(project: Path) -> None:
    content = (project / SOURCE).read_bytes()
    md5 = hashlib.md5(content).hexdigest()
    kept = project.parent / "remote/files/md5" / md5[:2] / md5[2:]
    kept.parent.mkdir(parents=True)
    kept.write_bytes(content)
    (project / SOURCE).unlink()
    assert "neither is raw/plants.csv.dvc" in refused(project, "exit 3").message
    out = {"md5": md5, "size": len(content), "hash": "md5", "path": Path(SOURCE).name}
    (project / f"{SOURCE}.dvc").write_text(yaml.safe_dump({"outs": [out]}))
    assert type(refused(project, "exit 3")) is Refused
    assert (project / SOURCE).read_bytes() == content
