"""Makes .venv with everything locked: run by any Python 3.11+ before anything is installed.

Standard library only. A second run that finds the same lock installed does nothing. An argument names an optional set
of libraries to install as well; it stays until the lock changes.
"""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements" / "all.txt"
# What is installed only for who asks for it.
OPTIONAL = ("boosting",)
PARTS = ("app", "loadtests", "pipelines", "slipway")


def main(extra: str = "") -> int:
    """Make or mend .venv, with one of the optional sets; return the exit code."""
    if sys.version_info < (3, 11):
        return _refuse(f"Python {sys.version.split()[0]} is too old", "make setup PYTHON=python3.11")
    if not _has_ensurepip():
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        return _refuse("this Python has no ensurepip", f"install it: apt install {package} (or your system's like)")
    if extra not in ("", *OPTIONAL):
        return _refuse(f"there is no optional set {extra!r}", f"name one of: {', '.join(OPTIONAL)}")
    home = ROOT / ".venv"
    python = home / "bin" / "python"
    wanted = hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    stamp = home / "slipway-lock.sha256"
    if not python.exists():
        venv.create(home, with_pip=True)
    try:
        if not _is_stamped(stamp, wanted):
            for former in (stamp, *home.glob("slipway-extra-*.sha256")):
                former.unlink(missing_ok=True)
            _install(python)
            stamp.write_text(wanted)
        if extra:
            _install_extra(python, extra)
    except subprocess.CalledProcessError as error:
        return _refuse(f"installing ended with {error.returncode}", "fix what it names above, then: make setup")
    return 0


def _is_stamped(stamp: Path, wanted: str) -> bool:
    return stamp.exists() and stamp.read_text() == wanted


def _install_extra(python: Path, extra: str) -> None:
    lock = ROOT / "requirements" / f"{extra}.txt"
    stamp, wanted = (
        python.parent.parent / f"slipway-extra-{extra}.sha256",
        hashlib.sha256(lock.read_bytes()).hexdigest(),
    )
    if not _is_stamped(stamp, wanted):
        _run(
            [
                str(python),
                "-m",
                "uv",
                "pip",
                "install",
                "--quiet",
                "--python",
                str(python),
                "--require-hashes",
                "-r",
                str(lock),
            ]
        )
        stamp.write_text(wanted)


def _install(python: Path) -> None:
    """Install uv by the environment's own pip, then by uv the whole lock and this project."""
    uv = [str(python), "-m", "uv", "pip"]
    lines = LOCK.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("uv=="))
    end = next(n for n, line in enumerate(lines[start + 1 :], start + 1) if not line.startswith("    --hash"))
    only_uv = python.parent.parent / "uv.txt"
    only_uv.write_text("\n".join(lines[start:end]).rstrip(" \\") + "\n")
    _run([str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(only_uv)])
    # Compiled once here, Slipway itself as well: where Python is told to write no bytecode, every process would compile
    # all anew.
    _run([*uv, "sync", "--quiet", "--compile-bytecode", "--python", str(python), "--require-hashes", str(LOCK)])
    _run([*uv, "install", "--quiet", "--python", str(python), "--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    _run([str(python), "-m", "compileall", "-q", *PARTS])


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, cwd=ROOT)


def _has_ensurepip() -> bool:
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        return False
    return True


def _refuse(what: str, next_step: str) -> int:
    print(f"{what}\nnext: {next_step}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
