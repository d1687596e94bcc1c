"""A change of shape whose command was killed is named, and one that goes on is left alone."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.home_lock import held
from pipelines.operator.changes import abandoned_changes
from pipelines.settings.settings import Settings

BEGUN: dict[str, Any] = {"unfinished": [{"id": "m-7", "verb": "up"}, {"id": "p-1", "version": "2"}]}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home"), "TARGET": "docker"})


def test_a_change_that_nobody_is_at_has_no_owner(settings: Settings) -> None:
    lock = settings.home / "docker.lock"
    with held(lock, "up"):
        assert abandoned_changes(BEGUN, settings) == []
    (told,) = abandoned_changes(BEGUN, settings)
    assert "m-7 has no owner: slipway up ended" in told and "make up" in told
    assert abandoned_changes({"unfinished": BEGUN["unfinished"][1:]}, settings) == []


def test_a_machine_that_never_changed_it_can_not_tell(settings: Settings) -> None:
    assert abandoned_changes(BEGUN, settings) == []
