"""Tables for a terminal, from what the API answers."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def status_table(bodies: Sequence[dict[str, Any]]) -> str:
    """Return what serves where of each model, beside what was last seen there, and what is under way."""
    if len(bodies) == 1:
        return _status_of(bodies[0])
    first, *others = bodies
    # What stalls is the installation's, and told once.
    parts = [first, *({**each, "stalled": []} for each in others)]
    return "\n\n".join(f"{each['model']}\n{_status_of(each)}" for each in parts)


def models_table(rows: Iterable[dict[str, Any]]) -> str:
    """Return each model: what it serves, and where."""
    columns = ("model", "state", "staging", "production", "project", "url of staging", "url of production")
    shown = []
    for row in rows:
        versions = [f"v{row['serving'][each]}" if each in row["serving"] else "" for each in ("staging", "production")]
        urls = [row["urls"].get(each, "") for each in ("staging", "production")]
        name = f"{row['name']} (default)" if row["default"] else row["name"]
        shown.append((name, row["state"], *versions, row["project"] or "", *urls))
    return render(columns, shown)


def _status_of(body: dict[str, Any]) -> str:
    rows = []
    for environment in ("staging", "production"):
        release = body["serving"].get(environment)
        seen = body["observed"].get(environment) or {}
        ready = [replica for replica in seen.get("replicas", []) if replica["ready"]]
        restarts = sum(replica["restarts"] for replica in seen.get("replicas", []))
        rows.append(
            (
                environment,
                f"v{release['version']}" if release else "no release",
                f"{len(ready)} ready, {restarts} restarts",
                (release["serving_at"] or "") if release else "",
                seen.get("drift") or "",
            )
        )
    text = render(("environment", "serves", "replicas", "since", "disagrees"), rows)
    for work in body["unfinished"]:
        what = _subject(work)
        text += f"\n{work['id']}: {what} {work['state']}, asked by {work['requested_by']}"
    # An API of before does not tell it.
    for line in body.get("stalled", []):
        text += f'\n{line}; next: "slipway up"'
    policy = body["policy"]
    return f"{text}\npolicy {policy['digest']} ({policy['profile']})"


def _subject(work: dict[str, Any]) -> str:
    """Say what a piece of work is about: a rollback learns its version only when it begins."""
    if "verb" in work:
        return f"slipway {work['verb']}"
    if "replaces" in work:
        return f"rollback of {work['environment']} from {work['replaces'] or 'no release'}"
    return f"version {work['version']}"


def history_table(body: dict[str, Any]) -> str:
    """Return the releases that are listed, oldest first, each with its override where there was one."""
    rows = []
    for release in body["releases"]:
        override = release["evidence"].get("override")
        shown = f"{', '.join(override['gates'])}: {override['reason']}" if override else ""
        rows.append(
            (
                release["id"],
                release["environment"],
                f"v{release['version']}",
                release["kind"],
                release["state"],
                release["actor"],
                ", ".join(release["evidence"].get("approved_by", [])),
                release["serving_at"] or "",
                shown,
            )
        )
    columns = ("release", "environment", "version", "kind", "state", "by", "approved by", "serving since", "override")
    table = render(columns, rows)
    if body["more"]:
        table += f"\nolder ones are not shown: GET /api/v1/releases?before={body['releases'][0]['id']}"
    return table


def versions_table(body: dict[str, Any]) -> str:
    """Return the registered versions that are listed, newest first, and how each stands."""
    rows = []
    for each in body["versions"]:
        tags = each["tags"]
        where = ", ".join(each["aliases"]) or tags.get("lifecycle", "")
        rows.append((f"v{each['version']}", where, tags.get("slipway.verdict", "not measured"), each["run_id"] or ""))
    if not rows:
        return f'no version of {body["model"]} is registered yet; next: "make candidate"'
    table = render(("version", "stands in", "verdict", "run"), rows)
    if body["more"]:
        table += f"\nolder ones are not shown: slipway versions --before {body['versions'][-1]['version']}"
    return table


def render(columns: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a plain table as text; what stands in it is shown as it is."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_escaped(cell) for cell in row))
    console = Console(width=160, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip()


def _escaped(cell: str) -> str:
    from rich.markup import escape

    return escape(cell)
