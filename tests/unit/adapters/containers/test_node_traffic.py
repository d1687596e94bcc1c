"""Whether what goes between nodes is encrypted, what stays as it was made, and what the operator is told to do."""

import gzip
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipelines.adapters.containers.node_traffic import NodeTraffic, choose_encryption, kernel_encrypts
from pipelines.errors import UsageError

ENCRYPTED, OPEN = {"Name": "ours-a", "Options": {"encrypted": ""}}, {"Name": "ours-b", "Options": {"vxlan": "1"}}
BARE: dict[str, Any] = {"Name": "ours-c", "Options": None}


class Engine:
    """One whose swarm has so many nodes, and these networks of ours."""

    def __init__(self, networks: list[dict[str, Any]]) -> None:
        self._networks = networks

    @contextmanager
    def api(self) -> Any:
        yield self

    def networks(self, filters: Mapping[str, str]) -> list[dict[str, Any]]:
        assert filters == {"label": "slipway.prefix=ours"}
        return self._networks


def traffic(networks: list[dict[str, Any]], chosen: bool | None = None) -> dict[str, Any]:
    return NodeTraffic(Engine(networks), "ours", chosen).invariant()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kept", "chosen", "encrypted"),
    [
        ({}, None, True),
        ({}, False, False),
        ({"encrypted_networks": True}, None, True),
        ({"encrypted_networks": False}, False, False),
        # Brought up before there was a choice.
        ({"prefix": "ours"}, None, False),
    ],
)
def test_a_new_installation_is_encrypted_and_another_stays_as_it_is(
    kept: dict[str, Any], chosen: bool | None, encrypted: bool
) -> None:
    assert choose_encryption(kept, chosen) is encrypted


@pytest.mark.parametrize(("was", "chosen"), [(True, False), (False, True)])
def test_networks_are_not_made_anew_under_what_serves(was: bool, chosen: bool) -> None:
    with pytest.raises(UsageError, match=f"encrypted_networks={str(was).lower()}") as refused:
        choose_encryption({"encrypted_networks": was}, chosen)
    assert "infra.json" in refused.value.next


@pytest.mark.parametrize(
    ("text", "able"),
    [("CONFIG_INET_ESP=m", True), ("CONFIG_INET_ESP=y", True), ("# CONFIG_INET_ESP is not set", False)],
)
def test_a_kernel_says_whether_it_can(tmp_path: Path, text: str, able: bool) -> None:
    assert kernel_encrypts(tmp_path, "6.1") is None
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / "config-6.1").write_text(f"CONFIG_XFRM=y\n{text}\n")
    assert kernel_encrypts(tmp_path, "6.1") is able
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "config.gz").write_bytes(gzip.compress(f"CONFIG_XFRM=y\n{text}\n".encode()))
    assert kernel_encrypts(tmp_path, "6.2") is able


def test_without_encryption_the_operator_is_told_what_to_close() -> None:
    (told,) = NodeTraffic(Engine([]), "ours", None).check(False, is_local=True)  # type: ignore[arg-type]
    assert "UDP 4789" in told and "7946" in told


def test_the_doctor_looks_at_every_network() -> None:
    assert traffic([ENCRYPTED, ENCRYPTED])["holds"] is True
    for opened in (OPEN, BARE):
        found = traffic([ENCRYPTED, opened])
        assert found["holds"] is None and opened["Name"] in found["detail"] and "UDP 4789" in found["detail"]
    # A firewall is somebody else's, and they have said so.
    assert traffic([OPEN], chosen=False)["holds"] is True
    assert traffic([ENCRYPTED, OPEN], chosen=True)["holds"] is None
