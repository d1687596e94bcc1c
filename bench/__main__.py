"""The benchmarks as a program: `python -m bench NAME`, which ends with the exit codes of `slipway`."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from bench import run_bench
from pipelines.errors import SlipwayError
from pipelines.settings.settings import Settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run one benchmark, or all; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", default="all", help="one benchmark, or all")
    parser.add_argument("--count", type=_count, help="how often, where a benchmark repeats something")
    parser.add_argument("--only", default="", help="of the faults, those that have this in their name")
    asked = parser.parse_args(argv)
    # So that a benchmark that is told to end stops what it started, as it does at Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = Settings.from_environ(os.environ)
        run_bench(asked.name, settings, os.environ, _report_progress, count=asked.count, only=asked.only)
    except SlipwayError as error:
        _report_progress(error.message)
        if error.next:
            _report_progress(f"next: {error.next}")
        return error.exit_code
    return 0


def _count(text: str) -> int | None:
    """Read a number above 0; an empty text, as from a variable of make that is not set, is none."""
    if not text:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _report_progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
