"""Reads a policy file as people write it: YAML, in which a key given twice is refused."""

from pathlib import Path
from typing import Any

from pipelines.documents import DocumentError, read_yaml
from pipelines.errors import PolicyInvalid


def read_policy_file(path: Path) -> dict[str, Any]:
    """Return the parsed YAML of a policy file; raise PolicyInvalid when it is none."""
    try:
        body = read_yaml(path)
    except DocumentError as error:
        raise PolicyInvalid(f"{path} can't be read: {error}", next="policy.yaml shows the form") from error
    if not isinstance(body, dict):
        raise PolicyInvalid(f"{path} holds no policy", next="policy.yaml shows the form")
    return body
