"""Whose process listens on a port, told by the system's table of sockets."""

import os
import socket
from pathlib import Path

import pytest

from pipelines.api.client import ApiClient
from pipelines.api.listener import stranger_on
from pipelines.errors import ApiUnavailable
from pipelines.settings.settings import Settings

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def table_of(tmp_path: Path, port: int, *, uid: int, state: str = "0A") -> Path:
    line = (
        f"   0: 0100007F:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {uid}        0 1 1\n"
    )
    file = tmp_path / "tcp"
    file.write_text(HEAD + line)
    return file


def test_a_stranger_is_named_and_neither_the_owner_nor_the_administrator_is_one(tmp_path: Path) -> None:
    stranger = os.geteuid() + 12345
    assert stranger_on("127.0.0.1", 8080, tables=(table_of(tmp_path, 8080, uid=stranger),)) == stranger
    for uid in (os.geteuid(), 0):
        assert stranger_on("127.0.0.1", 8080, tables=(table_of(tmp_path, 8080, uid=uid),)) is None


def test_who_does_not_listen_there_is_nobody(tmp_path: Path) -> None:
    stranger = os.geteuid() + 12345
    assert stranger_on("127.0.0.1", 8081, tables=(table_of(tmp_path, 8080, uid=stranger),)) is None
    assert stranger_on("127.0.0.1", 8080, tables=(table_of(tmp_path, 8080, uid=stranger, state="01"),)) is None
    assert stranger_on("192.0.2.1", 8080, tables=(table_of(tmp_path, 8080, uid=stranger),)) is None
    assert stranger_on("127.0.0.1", 8080, tables=(tmp_path / "none",)) is None


def test_the_systems_own_table_is_read() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        assert stranger_on("127.0.0.1", listening.getsockname()[1]) is None


def test_no_token_is_sent_to_a_stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0.2)
        port = listening.getsockname()[1]
        table = table_of(tmp_path, port, uid=os.geteuid() + 12345)
        monkeypatch.setattr("pipelines.api.client.stranger_on", lambda host, at: stranger_on(host, at, tables=(table,)))
        (tmp_path / "model.yaml").write_text("name: toy-model\n")
        environ = {"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_PROJECT": str(tmp_path), "SLIPWAY_PORT_API": str(port)}
        with pytest.raises(ApiUnavailable, match="listens a process of user") as refused:
            ApiClient(Settings.from_environ(environ), "secret").get("/status")
        assert "was not sent" in refused.value.next
        with pytest.raises(TimeoutError):
            listening.accept()
