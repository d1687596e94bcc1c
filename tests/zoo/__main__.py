"""The rates of wrong answers as a program: `python -m tests.zoo --count 200` prints them as a table."""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path

from pipelines.domain.description import Task
from tests.zoo.policy import limits
from tests.zoo.rates import Rate, rates


def main() -> int:
    """Print how often the gates are wrong; return 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="how many evaluation sets")
    parser.add_argument("--task", type=Task, choices=tuple(Task), action="append", help="of these tasks only")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        found = rates(Path(place), limits(), asked.count, _tell, asked.task or tuple(Task))
    sys.stdout.write("\n".join(table(found)) + "\n")
    return 0


def table(found: list[Rate]) -> list[str]:
    """Return the rates as a table of Markdown."""
    lines = ["| task | model | gate | sets | wrongly answered | stopped by |", "|---|---|---|---|---|---|"]
    for rate in found:
        share = f"{rate.wrong} ({rate.wrong / rate.sets:.1%})"
        by = ", ".join(f"{gate} {count}" for gate, count in rate.gates)
        lines.append(f"| {rate.task} | {rate.model} | {rate.gate} | {rate.sets} | {share} | {by} |")
    return lines


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
