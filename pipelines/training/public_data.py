"""Writes public data that a library brings along, as a program: who runs it may lack what trains.

442 patients with diabetes, ten measurements of each, and how far the disease had gone a year later.
"""

import sys
from pathlib import Path

from sklearn.datasets import load_diabetes


def write_diabetes(file: Path, target: str) -> None:
    """Write the data of diabetes as CSV, its last column called `target`."""
    load_diabetes(as_frame=True, scaled=False).frame.rename(columns={"target": target}).to_csv(file, index=False)


if __name__ == "__main__":
    write_diabetes(Path(sys.argv[1]), sys.argv[2])
