"""Serve as a worker of load runs on a machine of its own: join Locust's master for one phase after the other.

`python -m loadtests.runner.join --master-host HOST` ends when it is told to, when Locust fails, or when no master was
there for five minutes. Plan and rows come from the master, and the raw values go there; nothing is kept here.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtests.generator.control import ENDPOINT_VARIABLE, empty_endpoint

LOCUSTFILE = Path(__file__).parents[1] / "locustfile.py"
LOCUST = (sys.executable, "-m", "loadtests.generator.start", f"--locustfile={LOCUSTFILE}")
PORT = 5557
STOPPED = 128 + signal.SIGTERM


def main(argv: Sequence[str] | None = None) -> int:
    """Join until Locust fails; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.runner.join", description="Serve as a worker of load runs."
    )
    parser.add_argument("--master-host", required=True, help="where a load run waits for its workers")
    parser.add_argument("--master-port", type=int, default=PORT)
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(STOPPED))
    # Failed requests are the master's to judge; the rows are the master's to send.
    words = ["--worker", f"--master-host={options.master_host}", f"--master-port={options.master_port}"]
    words += ["--exit-code-on-error=0", "--gather", "--rows-file="]
    code = 0
    with empty_endpoint() as url:
        while code == 0:
            code = subprocess.run([*LOCUST, *words], env={**os.environ, ENDPOINT_VARIABLE: url}, check=False).returncode
    return code


if __name__ == "__main__":
    sys.exit(main())
