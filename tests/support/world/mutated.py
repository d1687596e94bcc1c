"""Files that were right once: with parts replaced, removed, cut off, or no text at all."""

import copy
import json
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# The same examples on every run, and no longer than a test may take.
BOUNDED = settings(
    derandomize=True, database=None, deadline=None, max_examples=40, suppress_health_check=list(HealthCheck)
)
HOSTILE = (
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"\xff\xfe{\x00}\x00",
    b"\x00" * 64,
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"9" * 10_000,
    b'{"schema_version": 1e999}',
    b'{"\\ud800": "\\udfff"}',
)
_ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        2**63,
        10**400,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "\ud800",
        "../../x",
        "x" * 10_000,
        [],
        {},
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | _ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def mutated(draw: st.DrawFn, document: Any) -> Any:
    """Return a JSON document with up to three of its values replaced, or removed."""
    body = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = _places(body)
        if not places:
            return draw(_VALUES)
        holder, key = draw(st.sampled_from(places))
        if draw(st.integers(0, 4)):
            holder[key] = draw(_VALUES)
        else:
            del holder[key]
    return body


@st.composite
def broken(draw: st.DrawFn, document: Any) -> bytes:
    """Return the bytes of a file that once held `document`."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.sampled_from(HOSTILE))
    content = json.dumps(draw(mutated(document))).encode()
    if kind == 1:
        return content[: draw(st.integers(0, len(content)))]
    if kind == 2:
        at = draw(st.integers(0, max(0, len(content) - 1)))
        return content[:at] + draw(st.binary(min_size=1, max_size=3)) + content[at + 1 :]
    return content


def _places(body: Any) -> list[tuple[Any, Any]]:
    """Return each holder with one of its keys, in a stable order."""
    keys: list[Any] = []
    if isinstance(body, dict):
        keys = list(body)
    elif isinstance(body, list):
        keys = list(range(len(body)))
    found: list[tuple[Any, Any]] = [(body, key) for key in keys]
    for key in keys:
        found += _places(body[key])
    return found
