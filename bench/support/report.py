"""The form in which a result is shown and kept."""

import dataclasses
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.support.machine import Machine
from bench.support.measured import Measured
from pipelines.operator.tables import render

DECIMALS = 4
RESULTS = "bench/results"


def result_body(name: str, measured: Measured, machine: Machine, project: Path) -> dict[str, Any]:
    """Return the JSON form of a result; figures have four decimals."""
    return {
        "name": name,
        "about": measured.about,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git(project, "rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git(project, "status", "--porcelain", "--", ".", f":!{RESULTS}")),
        "machine": dataclasses.asdict(machine),
        "figures": {figure: round(value, DECIMALS) for figure, value in measured.figures.items()},
        "limits": [
            {
                **dataclasses.asdict(limit),
                "met": limit.met(measured.figures[limit.figure]),
                "aim_reached": limit.reached(measured.figures[limit.figure]),
            }
            for limit in measured.limits
        ],
        "samples": {sample: [round(v, DECIMALS) for v in values] for sample, values in measured.samples.items()},
        **({"tried": [dict(row) for row in measured.tried]} if measured.tried else {}),
    }


def write_result(project: Path, body: dict[str, Any]) -> None:
    """Write `bench/results/NAME.json`, or replace it."""
    path = project / RESULTS / f"{body['name']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body, indent=2, sort_keys=True) + "\n")


def show(body: dict[str, Any]) -> str:
    """Return a result for people: what was done, on what, the figures, and which limits they met."""
    machine = body["machine"]
    limits = {limit["figure"]: limit for limit in body["limits"]}
    rows = [(figure, _shown(value), *_judged(limits.get(figure))) for figure, value in body["figures"].items()]
    return "\n".join(
        (
            f"{body['name']}: {body['about']}",
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']},"
            f" {machine['kernel']}, {machine['python']}, load average {machine['load_average_1min']} at start",
            *_shown_tries(body.get("tried", [])),
            render(("figure", "value", "limit", "verdict"), rows),
        )
    )


def _shown_tries(tried: list[dict[str, str]]) -> list[str]:
    return [render(tuple(tried[0]), [tuple(row.values()) for row in tried]), ""] if tried else []


def _shown(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _judged(limit: dict[str, Any] | None) -> tuple[str, str]:
    if limit is None:
        return "", ""
    verdict = "met" if limit["met"] else "missed"
    if limit["aim"] is not None:
        verdict += f", aim {limit['aim']:g} " + ("reached" if limit["aim_reached"] else "not reached")
    return f"{limit['bound']} {limit['value']:,g}", verdict


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
