"""What a program of the packages `pipelines` and `slipway` imports, within functions too, as import-linter sees it."""

import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import grimp
from grimp import ImportGraph

ROOT = Path(__file__).resolve().parents[2]
# The program of the control image: with the words `api` and `executor` it becomes those.
CONTROL = "pipelines.cli"
# What a notebook imports.
NOTEBOOK = "slipway.versions"
_OWN = ("pipelines", "slipway")


def modules_of(*entries: str) -> set[str]:
    """Return the modules of this repository that `entries` import, themselves and the packages around them included."""
    modules = {name for name in _upstream(entries) if name.startswith(_OWN)}
    return modules | {name.rsplit(".", depth)[0] for name in modules for depth in range(1, name.count(".") + 1)}


def libraries_of(*entries: str) -> dict[str, str]:
    """Return each package from outside that `entries` import, and one of the modules that does."""
    upstream = _upstream(entries)
    return {
        library: min(upstream & _graph().find_modules_that_directly_import(library))
        for library in upstream
        if not library.startswith(_OWN) and library not in sys.stdlib_module_names
    }


def distributions_of(library: str) -> set[str]:
    """Return what is installed to have a package, by its name in a lock file; where nothing is, the package's own."""
    found = packages_distributions().get(library, [library])
    return {name.lower().replace("_", "-").replace(".", "-") for name in found}


def path_of(module: str) -> Path:
    """Return the file of a module, relative to the repository."""
    path = Path(*module.split("."))
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


def _upstream(entries: tuple[str, ...]) -> set[str]:
    return set(entries).union(*(_graph().find_upstream_modules(entry) for entry in entries))


@cache
def _graph() -> ImportGraph:
    return grimp.build_graph(*_OWN, include_external_packages=True, cache_dir=None)
