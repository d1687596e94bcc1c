"""What a page of documentation needs, and where it gets it from."""

import re
from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

import httpx

_NAMED = re.compile(r"""(?:\bsrc=|\bhref=|\burl: *|\burl\(|@import +)["']?([^"')\s>]+)""")
# Within a style sheet or a script: data that is there already, and names of XML, which nobody fetches.
_NOT_FETCHED = ("data:", "#")


def assets_of(get: Callable[[str], httpx.Response], page: str = "/docs") -> list[str]:
    """Fetch a page and all that it names, style sheets included; fail where one is on another host, or missing."""
    answer = get(page)
    assert answer.headers["content-type"].startswith("text/html")
    pending, found = [urljoin(page, name) for name in _named_in(answer.text)], []
    while pending:
        path = pending.pop()
        assert urlsplit(path).netloc == urlsplit(path).scheme == "", f"{path} is on another host"
        answer = get(path)
        assert (answer.status_code, bool(answer.content)) == (200, True), path
        found.append(path)
        if answer.headers["content-type"].startswith("text/css"):
            pending += [urljoin(path, name) for name in _named_in(answer.text)]
    return found


def _named_in(text: str) -> list[str]:
    return [name for name in _NAMED.findall(text) if not name.startswith(_NOT_FETCHED)]
