"""Makes on a closed network what can't be pulled there: engine, base image, Terraform provider and tools.

Standard library only, Python 3.11 or later. Everything comes from package registries by their ordinary clients, and a
part is skipped where the ordinary way works, so a second run changes nothing.
"""

import argparse
import sys
from collections.abc import Callable, Mapping

import base
import engine
import golang
from machine import FailedError, RefusedError, say

PARTS: Mapping[str, Callable[[], None]] = {
    "engine": engine.prepare,
    "base": base.prepare,
    "provider": golang.prepare_provider,
    "tools": golang.prepare_tools,
}
FAILED = 1
REFUSED = 2


def main() -> int:
    """Prepare what is asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="prepare.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", choices=[*PARTS, "all", "stop"], help="stop ends the engine that was started here")
    part = parser.parse_args().part
    try:
        if part == "stop":
            engine.stop()
        for name in PARTS if part == "all" else [part] if part in PARTS else []:
            PARTS[name]()
    except RefusedError as error:
        say(f"{part}: {error}\nnext: {error.next}")
        return FAILED if isinstance(error, FailedError) else REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
