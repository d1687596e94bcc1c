"""What the command line refuses by itself, before anything is asked or changed."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import cli
from pipelines.settings.tokens import make_tokens

SLIPWAY = [sys.executable, "-m", "pipelines.cli"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    made = tmp_path / "home"
    made.mkdir()
    make_tokens(made / "tokens.json")
    return made


def refused(home: Path, *words: str) -> dict[str, str]:
    """Run a verb that ends with 2; return its refusal."""
    environ = {name: value for name, value in os.environ.items() if name != "SLIPWAY_TOKEN"}
    done = subprocess.run(
        [*SLIPWAY, *words], env={**environ, "SLIPWAY_HOME": str(home)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    if "--json" not in words:
        message, _, after = done.stderr.partition("\nnext: ")
        return {"message": message, "next": after.strip()}
    error: dict[str, str] = json.loads(done.stdout)["error"]
    return error


@pytest.mark.parametrize("confirm", ["", "no", "Yes"])
def test_destroy_wants_a_plain_yes_and_leaves_the_home(home: Path, confirm: str) -> None:
    error = refused(home, "destroy", "--confirm", confirm)
    assert error["next"] == "CONFIRM=yes"
    assert (home / "tokens.json").exists()


def test_a_person_without_a_token_is_told_who_has_one(home: Path) -> None:
    error = refused(home, "status", "--as", "mallory", "--json")
    assert error == {"code": "usage", "message": "no token for 'mallory'", "next": "one of: alice, bob"}


def test_a_no_needs_its_reason(home: Path) -> None:
    assert refused(home, "reject", "--version", "3", "--reason", " ")["message"] == "a rejection needs a reason"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_undecided_in_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def full(**_: object) -> None:
        raise OSError(number, os.strerror(number), "processes.json")

    monkeypatch.setattr(cli, "app", full)
    monkeypatch.setattr(sys, "argv", ["slipway", "up", "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 4
    refusal = json.loads(capsys.readouterr().out)["error"]
    assert os.strerror(number) in refusal["message"] and "make room" in refusal["next"]
