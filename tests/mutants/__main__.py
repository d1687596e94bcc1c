"""Seeds one fault after the other into a copy of the tree and names those that no test finds: `make mutants`.

Exit code 0: all were found; 3: a fault survived; 2: a fault no longer fits, or its tests fail without it.
"""

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.mutants.faults import ROOT, Fault, read_faults

AT_ONCE = 2
LIMIT_S = 180
WITHOUT_FAULT_S = 900
SAID_CHARS = 3000
PASSED, FAILED = 0, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Seed the faults whose name holds a word, or all; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("word", nargs="?", default="", help="only faults whose file or text holds it")
    word = parser.parse_args(argv).word
    chosen = [fault for fault in read_faults() if word in fault.name]
    if not chosen:
        _say(f"no fault holds {word!r}\nnext: a word of tests/mutants/faults.toml")
        return 2
    with tempfile.TemporaryDirectory(prefix="slipway-mutants-") as directory, ThreadPoolExecutor(AT_ONCE) as pool:
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(AT_ONCE):
            copies.put(_copy_tree(Path(directory) / str(number)))
        first = copies.get()
        every = sorted({test for fault in chosen for test in fault.tests})
        code, said = _run_tests(first, ["-n", str(AT_ONCE), "--dist=loadfile", *every], WITHOUT_FAULT_S)
        if code != PASSED:
            _say(f"{said}\nthe tests fail without any fault\nnext: make test")
            return 2
        copies.put(first)
        verdicts = list(pool.map(lambda fault: _try(fault, copies), chosen))
    survived = [fault for fault, verdict in zip(chosen, verdicts, strict=True) if verdict == "SURVIVED"]
    _say(f"{len(chosen) - len(survived)} of {len(chosen)} faults were found")
    return 3 if survived else 0


def _try(fault: Fault, copies: "queue.Queue[Path]") -> str:
    """Return whether the fault's tests find it, and say so."""
    tree = copies.get()
    begun = time.monotonic()
    try:
        with _seeded(tree / fault.file, fault):
            code, _ = _run_tests(tree, fault.tests, LIMIT_S)
    finally:
        copies.put(tree)
    # A fault that keeps the tests from being collected is found, but not by what they assert.
    verdict = {PASSED: "SURVIVED", FAILED: "found", None: "found (it hangs)"}.get(code, f"found (pytest: {code})")
    print(f"{verdict:18} {time.monotonic() - begun:6.1f} s  {fault.name[:140]}", flush=True)
    return verdict


@contextmanager
def _seeded(path: Path, fault: Fault) -> Iterator[None]:
    content = path.read_text(encoding="utf-8")
    path.write_text(fault.seeded(content), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(content, encoding="utf-8")


def _run_tests(tree: Path, words: Sequence[str], limit_s: float) -> tuple[int | None, str]:
    """Return pytest's exit code in a copy, None when it took too long, and the end of what it said."""
    # The editable installation leads to the tree that was copied: the copy has to come before it.
    environ = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *words]
    with tempfile.TemporaryFile() as output:
        run = subprocess.Popen(command, cwd=tree, env=environ, stdout=output, stderr=output)
        try:
            code: int | None = run.wait(limit_s)
        except subprocess.TimeoutExpired:
            for process in [*psutil.Process(run.pid).children(recursive=True), run]:
                process.kill()
            run.wait()
            code = None
        output.seek(0)
        return code, output.read().decode(errors="replace")[-SAID_CHARS:]


def _copy_tree(tree: Path) -> Path:
    """Copy what git would commit, as it stands in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
