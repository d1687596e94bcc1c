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


@pytest.mark.parametrize(
    ("words", "message", "after"),
    [
        (("backup", ""), "no file is named", "FILE=name of a new file"),
        (("restore", ""), "no file is named", 'FILE=name of what "make backup" wrote'),
        (("cancel", ""), "no evaluation is named to cancel", 'ID=e-3; "make status" shows what is under way'),
        (
            ("lineage", ""),
            "nothing is named to trace",
            "WHAT=a version, a hash, a commit or an image's digest",
        ),
        (("approve", "--version", ""), "no version is named to decide on", 'VERSION=n; "make status" shows what waits'),
        (
            ("promote", "--version", ""),
            "no version is named to promote",
            '"make promote VERSION=n"; "make versions" lists them',
        ),
        (("model", "check", ""), "no version is named", 'VERSION=n; "make versions" lists them'),
        (("model", "convert", ""), "no version is named", 'VERSION=n; "make versions" lists them'),
        (
            ("model", "convert", "x"),
            "version 'x' is not a version number",
            'give the number that MLflow shows, such as "make promote VERSION=3"',
        ),
        (("rollback", "--env", "prod"), "'prod' is no environment", "ENV=staging, or ENV=production"),
        (("loadtest", "--rate", "abc"), "RATE 'abc' is no number", "give a number"),
        (("loadtest", "--workers", "1.5"), "WORKERS '1.5' is no number", "give a whole number"),
        (("loadtest", "--workers", "100"), "WORKERS 100 is out of range", "give 1 to 64, one a core"),
    ],
)
def test_what_is_not_named_or_no_value_is_told_in_the_words_of_make(
    home: Path, words: tuple[str, ...], message: str, after: str
) -> None:
    assert refused(home, *words) == {"message": message, "next": after}
