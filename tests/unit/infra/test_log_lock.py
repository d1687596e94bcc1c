"""The lock of the extra `log`: all that a notebook needs, and nothing of an installation."""

import re
import subprocess
import sys

from pipelines.training.parts import BOOSTING
from tests.support.imports import NOTEBOOK, ROOT, distributions_of, libraries_of

LOCKED = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/log.txt").read_text(), re.MULTILINE))
INSTALLATION = ("boto3", "dbos", "dvc", "fastapi", "mlflow", "pandas", "sklearn", "typer")


def test_every_library_that_a_notebook_imports_is_locked_or_optional() -> None:
    missing = {
        library: module
        for library, module in libraries_of(NOTEBOOK).items()
        if library not in BOOSTING and not distributions_of(library) & LOCKED
    }
    assert missing == {}, 'add it to the extra "log" of pyproject.toml, then: make lock'


def test_nothing_that_runs_an_installation_is_locked() -> None:
    assert LOCKED.isdisjoint({"boto3", "dbos", "dvc", "httpx", "typer"})


def test_importing_slipway_imports_nothing_heavy() -> None:
    told = f"import sys, slipway; print([name for name in {INSTALLATION} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
