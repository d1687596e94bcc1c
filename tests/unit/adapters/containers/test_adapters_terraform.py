"""What Terraform's refusals become, and what a killed one leaves behind; Terraform is a script that acts as told."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from pipelines.adapters.containers.terraform import Terraform, find_settings
from pipelines.errors import Refused, SlipwayError, Undecided, UsageError
from pipelines.settings.settings import ROOT
from tests.support.containers.needs import skip_without_containers

# Does what the file named after the verb says, and notes how it was called.
SCRIPT = r"""#!/bin/bash
here=$(dirname "$0")
for word in "$@"; do case $word in -chdir=*) ;; *) verb=$word; break ;; esac; done
echo "$* TF_DATA_DIR=$TF_DATA_DIR TF_CLI_CONFIG_FILE=$TF_CLI_CONFIG_FILE" >>"$here/calls"
[ -e "$here/$verb" ] && . "$here/$verb"
exit 0
"""
LOCKED = """
Error: Error acquiring the state lock

Error message: resource temporarily unavailable
Lock Info:
  ID:        1c1c
  Path:      terraform.tfstate
  Operation: OperationTypeApply
  Who:       ada@engine
  Version:   1.11.4
  Created:   2026-11-21 12:00:00 UTC
"""


class Machine:
    def __init__(self, directory: Path) -> None:
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.sources = directory / "infra"
        for path in ("main.tf", "modules/one/main.tf", "modules/one/tests/one.tftest.hcl", "images/app/Dockerfile"):
            (self.sources / path).parent.mkdir(parents=True, exist_ok=True)
            (self.sources / path).write_text("")
        self.work = directory / "work"
        self.settings = directory / "terraform.rc"
        (self.bin / "terraform").write_text(SCRIPT)
        (self.bin / "terraform").chmod(0o755)
        self.let("version", """echo '{"terraform_version": "1.11.4"}'""")

    def let(self, verb: str, action: str) -> None:
        (self.bin / verb).write_text(action + "\n")

    def fail(self, verb: str, said: str) -> None:
        (self.bin / f"{verb}.said").write_text(said)
        self.let(verb, f'cat "$here/{verb}.said" >&2; exit 1')

    def calls(self) -> str:
        return (self.bin / "calls").read_text()

    def terraform(self) -> Terraform:
        return Terraform(self.sources, self.work, os.environ, self.settings)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path)
    monkeypatch.delenv("TF_CLI_CONFIG_FILE", raising=False)
    monkeypatch.setenv("PATH", f"{made.bin}:/usr/bin:/bin")
    return made


def test_the_sources_stay_as_they_are_and_all_else_is_in_the_work_folder(machine: Machine) -> None:
    machine.let("init", "touch .terraform.lock.hcl")
    before = sorted(machine.sources.rglob("*"))
    machine.terraform().apply({"prefix": "here"})
    assert sorted(machine.sources.rglob("*")) == before
    assert sorted(path.name for path in machine.work.rglob("*.*") if path.is_file()) == [
        "main.tf",
        "main.tf",
        "variables.tfvars.json",
    ]
    assert json.loads((machine.work / "variables.tfvars.json").read_text()) == {"prefix": "here"}
    assert f"-backend-config=path={machine.work}/terraform.tfstate" in machine.calls()
    assert f"TF_DATA_DIR={machine.work}/data" in machine.calls()


def test_the_documented_paths_are_those_that_are_used(machine: Machine) -> None:
    machine.terraform().apply({})
    for name in ("README.md", "versions.tf"):
        paths = re.findall(r"=<home>(/[a-z./]+)", (ROOT / "infra" / name).read_text())
        assert paths
        for path in paths:
            assert f"={machine.work}{path.removeprefix('/terraform')}" in machine.calls(), path


def test_the_provider_made_here_is_used_where_there_is_one(machine: Machine) -> None:
    machine.terraform().apply({})
    assert str(machine.settings) not in machine.calls()
    machine.settings.write_text("")
    machine.terraform().apply({})
    assert f"TF_CLI_CONFIG_FILE={machine.settings}" in machine.calls()
    assert find_settings({"SLIPWAY_TOOLS": "/t"}, Path("/r")) == Path("/t/terraform.rc")
    assert find_settings({}, Path("/r")) == Path("/r/.tools/terraform.rc")


def test_a_machine_without_terraform_is_told_to_install_it(machine: Machine) -> None:
    (machine.bin / "terraform").unlink()
    with pytest.raises(UsageError, match="no terraform") as refused:
        machine.terraform().apply({})
    assert refused.value.next == "install Terraform 1.11 or later"


def test_settings_that_are_given_go_before_those_made_here_where_they_are_there(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = machine.settings.with_name("own.rc")
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(own))
    machine.settings.write_text("")
    machine.terraform().apply({})
    assert f"TF_CLI_CONFIG_FILE={own}" not in machine.calls()
    own.write_text("")
    machine.terraform().apply({})
    assert machine.calls().splitlines()[-1].endswith(f"TF_CLI_CONFIG_FILE={own}")


@pytest.mark.parametrize("version", ["1.10.5", "0.12.31", "odd"])
def test_an_old_terraform_is_refused(machine: Machine, version: str) -> None:
    machine.let("version", f"""echo '{{"terraform_version": "{version}"}}'""")
    with pytest.raises(UsageError, match=f"terraform is {version}, which is too old"):
        machine.terraform().apply({})


NO_PROVIDER = "Error: Failed to query available provider packages\n\nno mirror has it"
FRAMED = "╷\n│ Error: no such image\n│ \n│   with docker_service.x\n╵"
BAD_VALUE = """
Error: Invalid value for variable

  on variables.tfvars.json line 29:
  29:   "ports": {
  30:     "api": 1

Two of ports are the same.

This was checked by the validation rule at variables.tf:3,1-2.
"""

BAD_TYPE = """
Error: Invalid value for input variable

  on variables.tfvars.json line 4:
   4:  "environments": {"production": {"replicas": "many"}}

The given value is not suitable for var.environments declared at
variables.tf:64,1-24: element "production": attribute "replicas": a number is required.
"""


@pytest.mark.parametrize(
    ("verb", "said", "refusal", "next"),
    [
        ("init", NO_PROVIDER, UsageError("no mirror has it"), "make offline"),
        ("apply", LOCKED, Refused("OperationTypeApply by ada@engine since 2026-11-21 12:00"), "wait"),
        ("apply", BAD_VALUE, UsageError("setting: Invalid value for variable Two of ports are the same.$"), "correct"),
        ("apply", BAD_TYPE, UsageError("setting: Invalid value for input variable .* a number is required"), "correct"),
        ("apply", FRAMED, Undecided("no such image with docker_service.x"), "make up"),
        ("apply", "", Undecided("it says nothing"), "make up"),
        ("plan", "Error: it is broken", Undecided("terraform plan: it is broken"), "make up"),
    ],
)
def test_a_refusal_says_what_and_what_to_do(
    machine: Machine, verb: str, said: str, refusal: SlipwayError, next: str
) -> None:
    machine.fail(verb, said)
    with pytest.raises(type(refusal), match=refusal.message) as refused:
        (machine.terraform().plan if verb == "plan" else machine.terraform().apply)({})
    assert type(refused.value) is type(refusal)
    assert next in refused.value.next


def test_variables_that_are_refused_do_not_take_the_place_of_those_that_made_what_is_there(machine: Machine) -> None:
    machine.terraform().apply({"replicas": 2})
    machine.fail("apply", BAD_VALUE)
    with pytest.raises(UsageError):
        machine.terraform().apply({"replicas": 0})
    assert machine.terraform().variables() == {"replicas": 2}
    machine.fail("apply", FRAMED)
    with pytest.raises(Undecided):
        machine.terraform().apply({"replicas": 3})
    assert machine.terraform().variables() == {"replicas": 3}


@pytest.mark.parametrize(("code", "planned"), [(0, ""), (2, "a change\n")])
def test_a_plan_is_empty_when_nothing_would_change(machine: Machine, code: int, planned: str) -> None:
    machine.let("plan", f"echo a change; exit {code}")
    assert machine.terraform().plan({}) == planned


def test_a_killed_run_is_remembered_until_one_ends_by_itself(machine: Machine) -> None:
    machine.let("apply", "kill -9 $$")
    with pytest.raises(Undecided):
        machine.terraform().apply({})
    began = machine.terraform().cut_off()
    assert began is not None
    with pytest.raises(Undecided):
        machine.terraform().apply({})
    assert machine.terraform().cut_off() == began
    machine.fail("apply", "Error: no")
    with pytest.raises(Undecided):
        machine.terraform().apply({})
    assert machine.terraform().cut_off() is None


@pytest.mark.parametrize("torn", ["", "2026-11-2"])
def test_a_torn_note_of_a_killed_run_counts_from_when_it_was_written(machine: Machine, torn: str) -> None:
    machine.work.mkdir()
    (machine.work / "cut-off").write_text(torn)
    os.utime(machine.work / "cut-off", (1_800_000_000, 1_800_000_000))
    began = machine.terraform().cut_off()
    assert began is not None and began.timestamp() == 1_800_000_000
    machine.terraform().apply({})
    assert machine.terraform().cut_off() is None


@pytest.mark.parametrize("content", ["", "[]", '{"prefix"'])
def test_what_lost_its_content_is_refused_with_what_to_do(machine: Machine, content: str) -> None:
    machine.work.mkdir()
    for name in ("variables.tfvars.json", "terraform.tfstate"):
        (machine.work / name).write_text(content)
    with pytest.raises(UsageError, match=r"variables\.tfvars\.json is damaged") as variables:
        machine.terraform().variables()
    with pytest.raises(UsageError, match=r"terraform\.tfstate is damaged") as state:
        machine.terraform().known_ids()
    assert "remove it" in variables.value.next and "terraform.tfstate.backup" in state.value.next


def test_the_note_of_a_run_is_written_whole(machine: Machine) -> None:
    machine.let("apply", f"ls {machine.work} >$here/seen; cat {machine.work}/cut-off >>$here/seen")
    machine.terraform().apply({})
    assert "+00:00" in (machine.bin / "seen").read_text()
    assert list(machine.work.glob("*.partial")) == []


def test_ctrl_c_lets_terraform_end_what_it_has_begun(machine: Machine) -> None:
    machine.let("apply", 'trap "echo ended >$here/ended; exit 1" INT; while :; do sleep 0.05; done')

    def interrupt() -> None:
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        machine.terraform().apply({}, interrupt)
    assert (machine.bin / "ended").exists()
    assert time.monotonic() - began < 20


def test_who_waits_is_told_what_happens_meanwhile(machine: Machine) -> None:
    machine.let("apply", "sleep 2.2")
    seen: list[int] = []
    machine.terraform().apply({}, lambda: seen.append(1))
    assert seen


def test_the_ids_of_a_state_are_known_and_nothing_is_applied_before_the_first_time(machine: Machine) -> None:
    assert not machine.terraform().exists()
    assert machine.terraform().known_ids() == set()
    machine.terraform().destroy({})
    assert not (machine.bin / "calls").exists()
    machine.work.mkdir()
    state = {"resources": [{"instances": [{"attributes": {"id": "a"}}, {"attributes": {"id": "b"}}]}]}
    (machine.work / "terraform.tfstate").write_text(json.dumps(state))
    assert machine.terraform().known_ids() == {"a", "b"}


def test_the_real_terraform_tells_a_version_that_is_read() -> None:
    try:
        told = subprocess.run(["terraform", "version", "-json"], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        skip_without_containers("no terraform on the path")
    assert "terraform_version" in json.loads(told)
