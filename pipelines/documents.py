"""Reads YAML and JSON that people or strangers wrote, bounded in size, nesting and repetition before it is a value.

A parser goes as deep as a text asks for, an alias stands for all that it names, and a number may have a million
digits: without bounds a few kilobytes take minutes, or end the program.
"""

from functools import cache
from pathlib import Path
from typing import Any

from pydantic_core import from_json

MAX_BYTES = 1 << 20
# What anybody has written by hand is far below both; what an alias stands for counts each time.
MAX_DEPTH = 64
MAX_NODES = 20_000
_NUMBER_CHARS = 100
# PyYAML lets the errors of what it builds values with through.
_BROKEN = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


class DocumentError(ValueError):
    """A text that is no document, or goes beyond the bounds of one."""


def read_yaml(path: Path) -> Any:
    """Return the value of a YAML file; raise DocumentError when it can't be read."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        _check_size(content)
        return parse_yaml(content.decode())
    except OSError as error:
        raise DocumentError(str(error)) from error
    except UnicodeDecodeError as error:
        raise DocumentError(f"it is not UTF-8: {error}") from error


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML document of plain values, in which a key given twice is refused."""
    import yaml

    loader = None
    try:
        loader = _loader()(text)
        return loader.get_single_data()
    except (yaml.YAMLError, *_BROKEN) as error:
        raise DocumentError(str(error) or type(error).__name__) from error
    finally:
        if loader:
            loader.dispose()


def parse_json(content: bytes | str, *, most_bytes: int = MAX_BYTES) -> Any:
    """Return the value of a JSON document; its parser refuses deep nesting by itself."""
    _check_size(content, most_bytes)
    try:
        return from_json(content)
    except ValueError as error:
        raise DocumentError(str(error)) from error


def _check_size(content: bytes | str, most_bytes: int = MAX_BYTES) -> None:
    if len(content) > most_bytes:
        raise DocumentError(f"it has more than {most_bytes:,} bytes")


@cache
def _loader() -> Any:
    """Return PyYAML's safe loader with bounds; made at first use, since importing PyYAML takes its time."""
    import yaml

    class Loader(yaml.SafeLoader):
        def __init__(self, text: str) -> None:
            super().__init__(text)
            self._depth = self._nodes = 0
            self._nodes_of: dict[int, int] = {}

        def compose_node(self, parent: Any, index: Any) -> Any:
            before, is_alias = self._nodes, self.check_event(yaml.AliasEvent)
            self._count(1)
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise DocumentError(f"it is nested more than {MAX_DEPTH} deep")
            node = super().compose_node(parent, index)
            self._depth -= 1
            if is_alias:
                if id(node) not in self._nodes_of:
                    raise DocumentError("an alias stands within what it stands for")
                self._count(self._nodes_of[id(node)])
            else:
                self._nodes_of[id(node)] = self._nodes - before
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            # A key given twice can be read in two ways, and a merged one in even more.
            seen: set[Any] = set()
            for place, _ in node.value:
                key = self.construct_object(place, deep=True)
                if key in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key!r} is given twice", place.start_mark)
                seen.add(key)
            return dict(super().construct_mapping(node, deep))

        def _count(self, nodes: int) -> None:
            self._nodes += nodes
            if self._nodes > MAX_NODES:
                raise DocumentError(f"it has more than {MAX_NODES:,} parts, those that aliases stand for included")

    def number(construct: Any) -> Any:
        def bounded(loader: Any, node: Any) -> Any:
            if len(node.value) > _NUMBER_CHARS:
                raise DocumentError(f"a number has more than {_NUMBER_CHARS} characters")
            return construct(loader, node)

        return bounded

    for tag, construct in (("int", Loader.construct_yaml_int), ("float", Loader.construct_yaml_float)):
        Loader.add_constructor(f"tag:yaml.org,2002:{tag}", number(construct))
    return Loader
