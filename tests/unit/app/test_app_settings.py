"""A replica's settings come from its environment, and say which variable is wrong."""

import pytest

from app.errors import SettingsError
from app.settings import Settings

RELEASE = {
    "SLIPWAY_BUNDLE_DIR": "/bundles/one",
    "SLIPWAY_BUNDLE_DIGEST": "sha256:" + "a" * 64,
    "SLIPWAY_MODEL": "toy-model",
    "SLIPWAY_VERSION": "6",
    "SLIPWAY_STAGE": "Production",
}


def test_release_is_read_from_the_environment() -> None:
    settings = Settings.from_environ(RELEASE | {"HOME": "/root", "SLIPWAY_HOME": "/elsewhere"})
    assert (settings.model, settings.version, settings.stage) == ("toy-model", "6", "Production")
    assert str(settings.bundle_dir) == "/bundles/one"


def test_no_bundle_directory_means_no_release() -> None:
    assert Settings.from_environ({"SLIPWAY_BUNDLE_DIR": ""}).bundle_dir is None


@pytest.mark.parametrize("name", ["SLIPWAY_BUNDLE_DIGEST", "SLIPWAY_MODEL", "SLIPWAY_VERSION"])
def test_incomplete_release_is_refused_with_the_missing_variable(name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environ(RELEASE | {name: ""})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLIPWAY_BUNDLE_DIGEST", "sha256:abc"),
        ("SLIPWAY_BUNDLE_DIGEST", "md5:" + "a" * 64),
        ("SLIPWAY_ACCESS_LOG_EVERY", "0"),
        ("SLIPWAY_ACCESS_LOG_EVERY", "often"),
    ],
)
def test_malformed_variable_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_environ(RELEASE | {name: value})
