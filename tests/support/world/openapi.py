"""What an OpenAPI document has to say of every answer."""

from collections.abc import Iterator
from typing import Any

STREAM_OR_TEXT = ("text/event-stream", "text/plain; version=0.0.4")


def answers(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield ("GET /path", status, schema) of each described answer, references resolved one step; fail without one."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["responses"], path
            for status, response in operation["responses"].items():
                where = f"{method.upper()} {path} {status}"
                assert response["description"], where
                ((kind, content),) = response["content"].items()
                if kind in STREAM_OR_TEXT:
                    continue
                assert kind == "application/json", where
                yield f"{method.upper()} {path}", status, resolve(document, content["schema"])


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema, or the component that it refers to."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: dict[str, Any] = document["components"]["schemas"][reference.rsplit("/", 1)[1]]
    return found


def loose_parts(document: dict[str, Any], schema: dict[str, Any], at: str = "") -> Iterator[str]:
    """Yield the places below a schema that say nothing of what stands there."""
    schema = resolve(document, schema)
    for kind in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(kind, []):
            yield from loose_parts(document, part, at)
    if schema.get("type") == "array":
        for part in schema.get("prefixItems") or [schema.get("items", {})]:
            yield from loose_parts(document, part, f"{at}[]")
    elif schema.get("type") == "object" and "properties" in schema:
        for name, part in schema["properties"].items():
            yield from loose_parts(document, part, f"{at}.{name}")
    elif schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        yield from loose_parts(document, schema["additionalProperties"], f"{at}.*")
    elif schema.get("additionalProperties") is False:
        return
    elif not {"anyOf", "oneOf", "allOf", "enum", "const"} & set(schema) and schema.get("type") in (None, "object"):
        yield at
