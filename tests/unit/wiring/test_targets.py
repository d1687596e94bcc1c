"""Every target is wired by one module of its name, which fills all that a target is asked for."""

import inspect
from pathlib import Path

import pytest

from pipelines.domain.release import Endpoint, Environment, Slot
from pipelines.errors import TargetUnavailable
from pipelines.settings.settings import Settings, TargetName
from pipelines.wiring.targets import TargetWiring, open_target, wiring_of

ASKED = [name for name in vars(TargetWiring) if not name.startswith("_")]


@pytest.mark.parametrize("target", TargetName)
@pytest.mark.parametrize("name", ASKED)
def test_a_target_fills_every_role(target: TargetName, name: str) -> None:
    wanted = list(inspect.signature(getattr(TargetWiring, name)).parameters)[1:]
    assert list(inspect.signature(getattr(wiring_of(target), name)).parameters) == wanted


@pytest.mark.parametrize(("target", "path"), [(TargetName.LOCAL, "direct"), (TargetName.DOCKER, "edge")])
def test_a_target_says_how_load_reaches_it(target: TargetName, path: str) -> None:
    assert path == wiring_of(target).LOAD_PATH


def test_the_target_that_is_opened_is_where_releases_run(tmp_path: Path) -> None:
    target = open_target(Settings.from_environ({"SLIPWAY_HOME": str(tmp_path / "home")}))
    with pytest.raises(TargetUnavailable, match="supervisor of toy-model in staging does not answer"):
        target.observe(Endpoint("toy-model", Environment.STAGING), Slot.LIVE)
