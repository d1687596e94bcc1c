"""Reads a policy file as people write it: YAML, in which a key given twice is refused."""

from pathlib import Path
from typing import Any

from pipelines.errors import PolicyInvalid


def read_policy_file(path: Path) -> dict[str, Any]:
    """Return the parsed YAML of a policy file; raise PolicyInvalid when it is none."""
    import yaml

    try:
        body = yaml.load(path.read_text(), _unambiguous_loader())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyInvalid(f"{path} can't be read: {error}", next="policy.yaml shows the form") from error
    if not isinstance(body, dict):
        raise PolicyInvalid(f"{path} holds no policy", next="policy.yaml shows the form")
    return body


def _unambiguous_loader() -> Any:
    """Return PyYAML's safe loader, but one that refuses a key given twice: nobody knows which is meant."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(None, None, f"{twice!r} is given twice", node.start_mark)
            return dict(super().construct_mapping(node, deep))

    return Loader
