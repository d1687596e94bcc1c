"""A model that is accepted on paper can be downloaded: the bounds on its way fit each other."""

import re

from pipelines.adapters.mlflow.store import TransferBounds
from pipelines.packaging.onnx_model import MAX_BYTES
from pipelines.settings.settings import ROOT

MIB = 1024 * 1024
MODULE = ROOT / "infra" / "modules" / "model_registry"


def number(pattern: str, file: str) -> int:
    """Return the one number that a pattern finds in a file of the module."""
    (found,) = re.findall(pattern, (MODULE / file).read_text())
    return int(found)


def test_a_download_has_room_for_the_largest_model_and_the_registry_for_two_downloads() -> None:
    room = number(r'tmpfs_mb\s*= \{ "/tmp" = (\d+) \}', "main.tf") * MIB
    assert TransferBounds().total_bytes == MAX_BYTES + 64 * MIB
    assert room == 2 * TransferBounds().total_bytes


def test_a_full_tmp_leaves_the_registry_its_memory() -> None:
    room = number(r'tmpfs_mb\s*= \{ "/tmp" = (\d+) \}', "main.tf")
    assert number(r"memory_mb = optional\(number, (\d+)\)", "variables.tf") >= room + 1024
