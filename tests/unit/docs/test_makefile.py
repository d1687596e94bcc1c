"""What make hands to the command line: dry runs of the real Makefile."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def dry_run(*words: str, **environ: str) -> str:
    """Return the last command that make would run."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("AS", "MAKEFLAGS", "TARGET")}
    command = ["make", "--dry-run", "--no-print-directory", *words]
    done = subprocess.run(command, cwd=ROOT, env={**inherited, **environ}, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("target", ["status", "history", "candidate", "deploy-staging", "rollback", "approve"])
def test_a_verb_is_alices_unless_somebody_is_named(target: str) -> None:
    assert '--as "alice"' in dry_run(target)
    assert '--as "bob"' in dry_run(target, "AS=bob")
    assert '--as "carol"' in dry_run(target, AS="carol")


def test_what_is_given_reaches_the_command_line_quoted() -> None:
    command = dry_run("promote", "VERSION=7", "OVERRIDE=two customers wait", "GATES=accuracy,slo")
    assert '--version "7" --override "two customers wait" --gates "accuracy,slo"' in command
    load = dry_run("loadtest", "RATE=400", "DURATION=60", "WORKERS=2", "SHAPE=ramp")
    assert '--env "staging" --rate "400" --duration "60" --workers "2" --shape "ramp"' in load
    assert '--env "production"' in dry_run("loadtest", "ENV=production")
    assert '--env "staging"' in dry_run("rollback", "ENV=staging")
    assert '--env "production"' in dry_run("rollback")
