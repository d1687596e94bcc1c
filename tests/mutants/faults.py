"""The seeded faults: what is broken where, and the tests that have to notice it, as faults.toml lists them."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = Path(__file__).with_name("faults.toml")


@dataclass(frozen=True)
class Fault:
    """In `file`, `right` stands exactly once; with `wrong` in its place, one of `tests` fails."""

    file: str
    right: str
    wrong: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        """The file and, on one line, what was put into it."""
        return f"{self.file}: {' '.join(self.wrong.split())}"

    def seeded(self, content: str) -> str:
        """Return the content of the file with the fault in it; raise ValueError when it does not fit."""
        if content.count(self.right) != 1:
            raise ValueError(
                f"{self.file} holds {self.right!r} {content.count(self.right)} times, not once: "
                f"write the line as it is now into {TABLE.name}"
            )
        return content.replace(self.right, self.wrong)


def read_faults(path: Path = TABLE) -> list[Fault]:
    """Return all faults of the table, whose paths are relative to the repository."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return [Fault(**{**row, "tests": tuple(row["tests"])}) for row in table["fault"]]
