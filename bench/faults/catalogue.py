"""The catalogue of faults and attacks: what is right in each, what injects it today, and whether it holds."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

CATALOGUE = Path(__file__).with_name("catalogue.toml")

_WORDS = """# Faults

What may break around Slipway and who may try to get in, what is right when it happens, and what injects it. A row is
*held* if what injects it was seen to end right, *held in part* if something of it is not shown yet, and *waits* if the
part of Slipway that it is about does not exist yet.

Scenarios run with `make bench NAME=faults`, against an installation of real processes under load; after each, `slipway
doctor` has to find every invariant kept. Benchmarks are in [benchmarks](../benchmarks.md). This page is made from
`bench/faults/catalogue.toml` by `make reference`.
"""


class Standing(StrEnum):
    """Whether what is right was seen to happen."""

    HELD = "held"
    PARTLY = "partly"
    WAITS = "waits"


SHOWN = {Standing.HELD: "held", Standing.PARTLY: "held in part", Standing.WAITS: "waits"}


@dataclass(frozen=True)
class Row:
    """A fault or an attack; `gap` says what is not shown, and is empty where it is held."""

    name: str
    right: str
    standing: Standing
    gap: str = ""
    tests: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Catalogue:
    """All that is held against, in the order in which it is shown."""

    faults: tuple[Row, ...]
    attacks: tuple[Row, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        """Faults and attacks."""
        return self.faults + self.attacks


def read_catalogue(path: Path = CATALOGUE) -> Catalogue:
    """Return the catalogue; an unknown key or standing is an error."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return Catalogue(_rows(table["fault"]), _rows(table["attack"]))


def describe_faults() -> str:
    """Return the page that shows the catalogue."""
    catalogue = read_catalogue()
    counts = {standing: sum(row.standing is standing for row in catalogue.rows) for standing in Standing}
    total = ", ".join(f"{count} {SHOWN[standing]}" for standing, count in counts.items())
    return "\n".join(
        [
            _WORDS,
            f"Of {len(catalogue.faults)} faults and {len(catalogue.attacks)} attacks: {total}.",
            *_section("Faults", "fault", catalogue.faults),
            *_section("Attacks", "attack", catalogue.attacks),
            "",
        ]
    )


def _rows(table: Iterable[dict[str, Any]]) -> tuple[Row, ...]:
    return tuple(Row(**{key: _value(key, value) for key, value in row.items()}) for row in table)


def _value(key: str, value: Any) -> Any:
    if key == "standing":
        return Standing(str(value))
    return tuple(value) if isinstance(value, list) else value


def _section(title: str, kind: str, rows: Iterable[Row]) -> list[str]:
    lines = ["", f"## {title}", "", f"| {kind} | right | injected by | |", "|---|---|---|---|"]
    return lines + [f"| {row.name} | {row.right} | {_injected(row)} | {_standing(row)} |" for row in rows]


def _injected(row: Row) -> str:
    tests = [f"[{name}](../../{file})" for file, _, name in (test.partition("::") for test in row.tests)]
    scenarios = [f"scenario *{name}*" for name in row.scenarios]
    benchmarks = [f"benchmark `{name}`" for name in row.benchmarks]
    return " · ".join(scenarios + tests + benchmarks) or "nothing yet"


def _standing(row: Row) -> str:
    return f"{SHOWN[row.standing]}: {row.gap}" if row.gap else SHOWN[row.standing]
