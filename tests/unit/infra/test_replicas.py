"""How many replicas an environment has is said once, and Terraform's default repeats it."""

import re
from pathlib import Path

from pipelines.domain.release import REPLICAS

VARIABLES = Path(__file__).resolve().parents[3] / "infra" / "variables.tf"


def test_terraform_provisions_as_many_replicas_as_run_on_one_machine() -> None:
    (variable,) = re.findall(r'^variable "environments" \{\n(.*?)^\}', VARIABLES.read_text(), re.DOTALL | re.MULTILINE)
    otherwise = int(re.findall(r"replicas\s+= optional\(number, (\d+)\)", variable)[0])
    default = re.findall(r"^  default = \{\n(.*?)^  \}", variable, re.DOTALL | re.MULTILINE)[0]
    chosen = {name: re.findall(r"replicas = (\d+)", rest) for name, rest in re.findall(r"(\w+)\s+= \{(.*?)\}", default)}
    assert {name: int((given or [otherwise])[0]) for name, given in chosen.items()} == dict(REPLICAS)
