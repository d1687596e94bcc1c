"""The verbs of those who change Slipway: check, test, seed faults, bench, lock."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from pipelines.developer.install import OPTIONAL
from pipelines.errors import SlipwayError, UsageError
from pipelines.settings.settings import ROOT

BIN = Path(sys.executable).parent
PROCESSES = ("app", "control", "pipelines", "log", "loadtests", "mlflow", "dev")
TOOLCHAIN = "toolchain"
# Most tests wait for something that starts or ends, so there is room for more of them than cores. Where containers run
# beside the end-to-end tests, which judge latencies, a fourth would disturb them.
BESIDE_CONTAINERS, BESIDE_PROCESSES = "-n3", "-n4"
EVERY_TEST = ("--dist=loadfile", "--no-loadscope-reorder", "--durations=10")
ENGINE = Path("/var/run/docker.sock")


def run_checks() -> None:
    """Check format, lint, types and import contracts; raise SlipwayError naming the ones that failed."""
    checks = {
        "format": ["ruff", "format", "--check", "."],
        "lint": ["ruff", "check", "."],
        "types": ["mypy"],
        "imports": ["lint-imports"],
    }
    failed = []
    for name, command in checks.items():
        print(f"== {name}", flush=True)
        done = subprocess.run([str(BIN / command[0]), *command[1:]], cwd=ROOT, check=False)
        if done.returncode != 0:
            failed.append(name)
    if failed:
        raise SlipwayError(f"{', '.join(failed)} failed", next="fix what is named above")


def run_tests(words: list[str], environ: Mapping[str, str]) -> int:
    """Run pytest with `words`, or over all tests, of which several files run side by side; return its exit code."""
    containers = environ.get("DOCKER_HOST") or ENGINE.exists()
    every = [BESIDE_CONTAINERS if containers else BESIDE_PROCESSES, *EVERY_TEST]
    path = f"{BIN}{os.pathsep}{environ.get('PATH', '')}"
    command = [sys.executable, "-m", "pytest", *(words or every)]
    return subprocess.run(command, cwd=ROOT, env={**environ, "PATH": path}, check=False).returncode


def run_mutants(word: str) -> int:
    """Seed the faults that hold `word` into copies of the tree, all by default; return the exit code."""
    return subprocess.run([sys.executable, "-m", "tests.mutants", word], cwd=ROOT, check=False).returncode


def run_zoo(count: str) -> int:
    """Judge good and bad models on so many evaluation sets, and show how often gates are wrong; return the code."""
    words = ["--count", count] if count else []
    return subprocess.run([sys.executable, "-m", "tests.zoo", *words], cwd=ROOT, check=False).returncode


def become_benchmark(words: list[str], environ: Mapping[str, str], root: Path = ROOT) -> NoReturn:
    """Let `python -m bench` take this process over with `words`: a signal then reaches what has to stop what it began.

    Raises UsageError where there are no benchmarks: they are no part of a wheel or an image.
    """
    if not (root / "bench" / "__main__.py").is_file():
        raise UsageError("the benchmarks are no part of an installation", next="run it in a clone of Slipway")
    path = os.pathsep.join(filter(None, [str(root), environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "bench", *words]
    os.execve(command[0], command, {**environ, "PYTHONPATH": path})


def lock() -> None:
    """Resolve all dependencies together, then write one hash-locked file a process, and one for the Go compiler.

    An optional extra is resolved on top of all others, whose versions it leaves alone.
    """
    every = Path("requirements/all.txt")
    _compile([word for process in PROCESSES for word in ("--extra", process)], every)
    for extra in (*PROCESSES, *OPTIONAL):
        _compile(["--extra", extra, "--no-annotate", "-c", str(every)], every.with_stem(extra))
    _compile(["--group", TOOLCHAIN, "--no-annotate"], every.with_stem(TOOLCHAIN))


def _compile(arguments: list[str], output: Path) -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11"]
    command += ["--generate-hashes", "--no-emit-index-url", "--no-emit-find-links", *arguments]
    command += ["pyproject.toml", "--output-file", str(output)]
    environ = {**os.environ, "UV_CUSTOM_COMPILE_COMMAND": "make lock"}
    subprocess.run(command, cwd=ROOT, env=environ, check=True)
