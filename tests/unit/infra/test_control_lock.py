"""The lock of the control image: all that its processes import, and nothing that trains."""

import re

from tests.support.imports import CONTROL, ROOT, distributions_of, libraries_of

LOCKED = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/control.txt").read_text(), re.MULTILINE))


def test_every_library_that_api_or_executor_import_is_locked() -> None:
    missing = {
        library: module for library, module in libraries_of(CONTROL).items() if not distributions_of(library) & LOCKED
    }
    assert missing == {}, 'add it to the extra "control" of pyproject.toml, then: make lock'


def test_nothing_that_trains_or_serves_mlflow_is_in_the_control_image() -> None:
    assert LOCKED.isdisjoint({"dvc", "mlflow", "skl2onnx", "skops"})
    assert "mlflow-skinny" in LOCKED
