"""One installation a session, on which the demonstration has run."""

from collections.abc import Iterator

import pytest

from tests.e2e.installation import Installation


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, str]]:
    """Run `slipway demo` once; yield the installation and what the demonstration printed."""
    installation = Installation(tmp_path_factory.mktemp("e2e"))
    try:
        printed = installation.done("demo")
        installation.apply_policy()
        yield installation, printed
    finally:
        installation.remove()


@pytest.fixture
def slipway(demo: tuple[Installation, str]) -> Installation:
    """The installation that the demonstration left running."""
    return demo[0]
