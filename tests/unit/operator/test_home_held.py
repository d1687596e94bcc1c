"""A home is brought up, taken down or destroyed by one command at a time: the next is refused, and touches nothing."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pipelines.adapters.home_lock import held
from pipelines.errors import Refused
from pipelines.operator.down import destroy_home, take_down
from pipelines.operator.up import bring_up
from pipelines.settings.installation import InstallationRecord
from pipelines.settings.settings import Settings
from pipelines.settings.tokens import make_tokens

Verb = Callable[[Settings, Mapping[str, str], Callable[[str], None]], None]


@pytest.mark.parametrize("verb", [bring_up, take_down, destroy_home])
@pytest.mark.parametrize("target", ["local", "docker"])
def test_a_command_on_a_home_that_another_changes_is_refused_with_who_it_is(
    tmp_path: Path, verb: Verb, target: str
) -> None:
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home"), "TARGET": target})
    settings.home.mkdir(mode=0o700)
    if verb is destroy_home:
        make_tokens(settings.tokens_file)
    before = sorted([*settings.home.iterdir(), settings.home / "home.lock"])
    with held(settings.home / "home.lock", "up"), pytest.raises(Refused, match="being changed: up by process"):
        verb(settings, {}, print)
    assert sorted(settings.home.iterdir()) == before


def test_a_home_that_is_not_there_is_not_made_by_taking_it_down(tmp_path: Path) -> None:
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home")})
    take_down(settings, {}, print)
    assert not settings.home.exists()


@pytest.mark.parametrize("after", range(4))
def test_a_removal_that_was_cut_off_anywhere_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home"), "TARGET": "local"})
    settings.logs.mkdir(mode=0o700, parents=True)
    make_tokens(settings.tokens_file)
    for path in (settings.logs / "api.log", settings.home / "mlflow.db", settings.home / "zones"):
        path.touch()
    unlink, left = os.unlink, [after]

    def killed(path: str, **more: int) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        unlink(path, **more)

    monkeypatch.setattr(os, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        destroy_home(settings, {}, print)
    assert settings.tokens_file.exists()
    monkeypatch.undo()
    destroy_home(settings, {}, print)
    assert not settings.home.exists()


def test_a_home_that_an_earlier_slipways_removal_left_without_tokens_is_removed_too(tmp_path: Path) -> None:
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home")})
    settings.logs.mkdir(parents=True)
    InstallationRecord(id="ours", settings={}).write(settings.home)
    destroy_home(settings, {}, print)
    assert not settings.home.exists()


def test_a_home_is_removed_however_deep_the_folders_are_that_a_killed_job_left(tmp_path: Path) -> None:
    settings = Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home"), "TARGET": "local"})
    job = settings.home / "jobs" / "job-1"
    job.mkdir(mode=0o700, parents=True)
    make_tokens(settings.tokens_file)
    inside = os.open(job, os.O_RDONLY)
    for _ in range(sys.getrecursionlimit() + 100):
        os.mkdir("d", dir_fd=inside)
        outside, inside = inside, os.open("d", os.O_RDONLY, dir_fd=inside)
        os.close(outside)
    os.close(inside)
    try:
        destroy_home(settings, {}, print)
        assert not settings.home.exists()
    finally:
        # What lies so deep pytest itself can't remove.
        subprocess.run(["rm", "-rf", str(settings.home)], check=True)
