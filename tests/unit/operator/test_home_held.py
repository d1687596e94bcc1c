"""A home is brought up, taken down or destroyed by one command at a time: the next is refused, and touches nothing."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pipelines.adapters.home_lock import held
from pipelines.errors import Refused
from pipelines.operator.down import destroy_home, take_down
from pipelines.operator.up import bring_up
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
