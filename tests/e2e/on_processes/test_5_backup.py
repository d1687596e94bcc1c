"""A backup of an installation that serves, restored beside it: it is the same, it is another one, and it goes on."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def restored(served: Installation, tmp_path: Path) -> Iterator[Installation]:
    """What a backup of the serving installation, taken under way, is restored to: a home and ports of its own."""
    written = served.read("backup", str(tmp_path / "backup"))
    (tmp_path / "restored").mkdir()
    made = Installation(tmp_path / "restored", tree=served.tree)
    # What is restored brings the mark of a test's home itself.
    shutil.rmtree(made.home)
    try:
        told = made.done("restore", written["file"], "--head", written["head"])
        assert f"Head of the audit log: {written['head']} (it holds the one that was expected)" in told
        made.done("up")
        yield made
    finally:
        made.remove()


def test_a_restored_installation_serves_proves_and_releases_as_the_one_before(
    served: Installation, restored: Installation
) -> None:
    before = {name: served.health(name) for name in ("staging", "production")}
    for name, health in before.items():
        restored.wait_for(lambda name=name, health=health: restored.health(name) == health, f"{name} to serve")
    assert restored.read("history") == served.read("history")
    old, new = (each.read("audit", "--limit", "200")["entries"] for each in (served, restored))
    copied = [entry for entry in new if entry["seq"] <= old[-1]["seq"]]
    assert copied == old[-len(copied) :] and len(copied) > 1
    assert "restore" in [entry["action"] for entry in new]
    assert restored.read("audit-verify")["valid"]
    version = restored.staged()
    printed, told = restored.ask_and_approve(version).communicate(timeout=120)
    assert printed.startswith(f"Promoted churn-model v{version} -> Production"), told
    assert restored.health("production")["version"] == version
    restored.await_content()
    assert {name: served.health(name) for name in before} == before
