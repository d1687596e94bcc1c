"""Preparing a closed network: what is there is left alone, and only an engine that was started here is ended."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.settings.settings import ROOT

PREPARE = ROOT / "infra" / "offline" / "prepare.py"


@pytest.fixture
def bystander() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that somebody else started."""
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def prepare(
    part: str, tools: Path, *, client: str = "#!/bin/sh\nexit 1\n", path: str = "/nowhere", host: str = ""
) -> tuple[int, str]:
    """Run a part with a client that answers as told; return the exit code and what was said."""
    tools.mkdir(exist_ok=True)
    program = tools / "docker"
    program.write_text(client)
    program.chmod(0o755)
    environ = {**os.environ, "SLIPWAY_TOOLS": str(tools), "SLIPWAY_DOCKER": str(program), "PATH": path}
    environ["DOCKER_HOST"] = host
    command = [sys.executable, str(PREPARE), part]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == ""
    return done.returncode, done.stderr


def record(tools: Path, pid: int, started: str) -> Path:
    path = tools / "engine" / "engine.pid"
    path.parent.mkdir(parents=True)
    path.write_text(f"{pid} {started}\n")
    return path


def start_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def test_an_engine_that_answers_is_left_as_it_is(tmp_path: Path) -> None:
    client = '#!/bin/sh\n[ "$1" = info ] && echo active || echo 20.10.24\n'
    code, said = prepare("engine", tmp_path / "tools", client=client)
    assert (code, said) == (0, "engine: skipped, version 20.10.24 answers\n")


@pytest.mark.parametrize(("host", "refused"), [("tcp://192.0.2.1:2376", True), ("", False)])
def test_only_an_engine_that_is_named_and_does_not_answer_is_refused(tmp_path: Path, host: str, refused: bool) -> None:
    code, said = prepare("engine", tmp_path / "tools", host=host)
    assert code != 0
    assert (f"DOCKER_HOST={host} does not answer" in said) == refused


def test_an_engine_of_somebody_else_is_not_put_into_a_swarm(tmp_path: Path) -> None:
    client = '#!/bin/sh\n[ "$1" = swarm ] && touch "$0.swarm"; [ "$1" = info ] && echo inactive || echo 29.0.0\n'
    code, said = prepare("engine", tmp_path / "tools", client=client)
    assert code == 0
    told, _, command = said.splitlines()[1].partition("; next: ")
    assert told == "engine: it is in no swarm (inactive), and it is not ours"
    assert command == "docker swarm init --advertise-addr 127.0.0.1 --listen-addr 127.0.0.1:2377"
    assert not (tmp_path / "tools" / "docker.swarm").exists()


def test_a_lock_that_another_holds_is_waited_for(tmp_path: Path) -> None:
    programs, held = tmp_path / "programs", tmp_path / "held"
    programs.mkdir()
    held.touch()
    (programs / "apt-get").write_text(
        f'#!/bin/sh\necho "$1" >> {tmp_path}/asked\n'
        f"[ -e {held} ] && rm {held} || exit 0\n"
        'echo "E: Could not get lock /lock. It is held by process 7 (apt)" >&2\n'
        "exit 100\n"
    )
    (programs / "apt-get").chmod(0o755)
    script = (
        "import machine; machine.LOCK_POLL_S = 0.01; machine.run_unlocked('apt-get', 'update', environ=dict(PATH={!r}))"
    )
    command = [sys.executable, "-c", script.format(f"{programs}:/bin:/usr/bin")]
    environ = {"PYTHONPATH": str(PREPARE.parent), "PATH": f"{programs}:/bin:/usr/bin"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "held by process 7 (apt)" in done.stderr and "waiting up to 600 s" in done.stderr
    assert (tmp_path / "asked").read_text() == "update\nupdate\n"


def test_a_base_image_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    code, said = prepare("base", tmp_path / "tools", client="#!/bin/sh\nexit 0\n")
    assert (code, said) == (0, "base: skipped, debian:trixie-slim is there\n")


def test_a_base_image_that_can_be_pulled_is_pulled(tmp_path: Path) -> None:
    code, said = prepare("base", tmp_path / "tools", client='#!/bin/sh\n[ "$1" = pull ]\n')
    assert (code, said) == (0, "base: skipped, debian:trixie-slim was pulled\n")


def test_a_machine_without_terraform_is_told_to_install_it(tmp_path: Path) -> None:
    code, said = prepare("provider", tmp_path / "tools")
    assert code == 2
    assert said.splitlines()[-1] == "next: install Terraform 1.11 or later, then run it again"


def test_a_tool_on_the_path_is_used(tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "crane").write_text("#!/bin/sh\n")
    (programs / "crane").chmod(0o755)
    code, said = prepare("tools", tmp_path / "tools", path=str(programs))
    assert (code, said) == (0, f"tools: skipped, {programs}/crane is on the path\n")


def test_stop_without_an_engine_of_ours_does_nothing(tmp_path: Path) -> None:
    assert prepare("stop", tmp_path / "tools") == (0, "engine: none that was started here is running\n")


def test_stop_spares_a_process_that_has_taken_the_engines_number(
    tmp_path: Path, bystander: "subprocess.Popen[bytes]"
) -> None:
    record(tmp_path / "tools", bystander.pid, "1")
    code, said = prepare("stop", tmp_path / "tools")
    assert (code, said) == (0, "engine: none that was started here is running\n")
    assert bystander.poll() is None


def test_stop_ends_the_engine_that_was_started_here(tmp_path: Path, bystander: "subprocess.Popen[bytes]") -> None:
    file = record(tmp_path / "tools", bystander.pid, start_of(bystander.pid))
    code, said = prepare("stop", tmp_path / "tools")
    assert (code, said) == (0, f"engine: process {bystander.pid} has ended\n")
    assert bystander.wait(timeout=10) != 0
    assert not file.exists()


def test_an_unknown_part_is_refused_with_the_names(tmp_path: Path) -> None:
    code, said = prepare("motor", tmp_path / "tools")
    assert code == 2
    assert "choose from" in said and "engine" in said


def test_nothing_under_infra_names_the_host_of_a_registry() -> None:
    hosts = re.compile(
        r"\b(?:pypi|pythonhosted|npmjs|ghcr|quay|gcr)\.(?:org|io|com)\b|\b(?:proxy|deb|registry)\.\w+\.\w+"
    )
    files = [path for path in (ROOT / "infra").rglob("*") if path.suffix in {".py", ".mod", ""} and path.is_file()]
    assert len(files) > 15
    assert [(path.name, found) for path in files for found in hosts.findall(path.read_text())] == []
