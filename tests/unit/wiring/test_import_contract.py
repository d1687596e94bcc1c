"""Every module stands in exactly one layer of the import contract, and wiring alone may name adapters."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CONFIGURATION = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
CONTRACTS: list[dict[str, Any]] = CONFIGURATION["importlinter"]["contracts"]
# They reckon, and reach nothing; DVC is a command.
ALLOWED = {"pydantic", "pydantic_settings", "numpy", "dvc"}
PARTS: list[str] = CONFIGURATION["importlinter"]["root_packages"]


def layers() -> list[str]:
    """Return the absolute name of every layer that stands in a part, and of the parts that have none inside."""
    inside = [
        f"{part}.{name.strip()}"
        for contract in CONTRACTS
        if contract["type"] == "layers"
        for part in contract.get("containers", ())
        for layer in contract["layers"]
        for name in layer.replace("|", ":").split(":")
    ]
    divided = {name.partition(".")[0] for name in inside}
    return [*inside, *(part for part in PARTS if part not in divided)]


def modules(root: Path) -> Iterator[str]:
    """Yield the names of all modules; a part's own `__init__` is the part."""
    for part in PARTS:
        for path in (root / part).rglob("*.py"):
            words = path.relative_to(root).with_suffix("").parts
            # What has a dot in its name is a file for some tool, which nothing can import.
            if "." not in words[-1]:
                yield ".".join(word for word in words if word != "__init__")


def misplaced(root: Path) -> list[str]:
    """Return the modules that stand in no layer, or in two."""
    known = layers()
    held = {name: [each for each in known if name == each or name.startswith(f"{each}.")] for name in modules(root)}
    return sorted(name for name, found in held.items() if len(found) != 1 and name not in PARTS)


def test_every_module_stands_in_exactly_one_layer() -> None:
    assert misplaced(ROOT) == []


@pytest.mark.parametrize("path", ["pipelines/loose.py", "pipelines/novelty/deep/thing.py", "loadtests/more/run.py"])
def test_a_module_in_no_layer_is_found(tmp_path: Path, path: str) -> None:
    for part in PARTS:
        (tmp_path / part).mkdir()
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).touch()
    (tmp_path / "pipelines" / "domain").mkdir()
    (tmp_path / "pipelines" / "domain" / "placed.py").touch()
    assert misplaced(tmp_path) == [path.removesuffix(".py").replace("/", ".")]


@pytest.mark.parametrize("part", ["app", "loadtests", "pipelines"])
def test_a_part_itself_imports_nothing(part: str) -> None:
    tree = ast.parse((ROOT / part / "__init__.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def test_no_room_but_wiring_may_name_adapters() -> None:
    (contract,) = (each for each in CONTRACTS if each["name"] == "Wiring alone names adapters")
    rooms = {name for name in layers() if name.startswith("pipelines.")}
    assert set(contract["source_modules"]) == rooms - {"pipelines.wiring", "pipelines.adapters"}


def test_no_contract_has_an_exception() -> None:
    assert not [each["name"] for each in CONTRACTS if each.get("ignore_imports")]


def test_every_library_of_the_pipelines_but_pydantic_is_kept_out_of_the_domain() -> None:
    (contract,) = (each for each in CONTRACTS if each["name"].startswith("The domain knows no library"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = [*extras["pipelines"], *extras.get("control", ())]
    required = {re.split(r"[\[>=<;]", each)[0] for each in declared} - {"slipway"}
    imported = {"mlflow-skinny": "mlflow", "pyyaml": "yaml", "scikit-learn": "sklearn"}
    wanted = {imported.get(name, name.replace("-", "_")) for name in required} - ALLOWED
    assert wanted <= set(contract["forbidden_modules"])
