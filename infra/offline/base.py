"""The base image that all images are built from, made of Debian's packages where it can't be pulled."""

import subprocess
import tempfile
from pathlib import Path

from machine import TOOLS, FailedError, docker, install, need_root, run, say, works

IMAGE = "debian:trixie-slim"
SUITE = "trixie"
PULL_S = 300.0
# What the ordinary image leaves out as well: packages installed later leave it out too.
EXCLUDED = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*", "/usr/share/lintian/*")
LEFT_OVER = ("var/cache/apt", "var/cache/debconf", "var/lib/apt/lists", "var/log", *(e.strip("/*") for e in EXCLUDED))


def prepare() -> None:
    """Make IMAGE known to the engine."""
    if works(docker(), "image", "inspect", IMAGE):
        say(f"base: skipped, {IMAGE} is there")
    elif works(docker(), "pull", IMAGE, limit_s=PULL_S):
        say(f"base: skipped, {IMAGE} was pulled")
    else:
        install("debootstrap")
        need_root("making a base image")
        TOOLS.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=TOOLS, prefix="base-") as directory:
            _bootstrap(Path(directory))
            _import(Path(directory))
        say(f"base: {IMAGE} made of Debian's packages")


def _bootstrap(tree: Path) -> None:
    mirrors = _mirrors()
    main = mirrors.get("Debian")
    say(f"base: installing Debian {SUITE}, which takes half a minute")
    run("debootstrap", "--variant=minbase", SUITE, str(tree), *([main] if main else []))
    if main:
        security = mirrors.get("Debian-Security")
        lines = [f"deb {main} {name} main" for name in (SUITE, f"{SUITE}-updates")]
        lines += [f"deb {security} {SUITE}-security main"] if security else []
        (tree / "etc/apt/sources.list").write_text("\n".join(lines) + "\n")
    rules = [f"path-exclude {pattern}" for pattern in EXCLUDED] + ["path-include /usr/share/doc/*/copyright"]
    (tree / "etc/dpkg/dpkg.cfg.d/slim").write_text("\n".join(rules) + "\n")
    for name in ("etc/hostname", "etc/resolv.conf", "etc/machine-id"):
        (tree / name).unlink(missing_ok=True)
    for name in LEFT_OVER:
        run("find", str(tree / name), "-type", "f", "-not", "-name", "copyright", "-delete")


def _mirrors() -> dict[str, str]:
    """Return the address of each archive, by its label, that this machine's own packages come from."""
    form = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
    lines = run("apt-get", "indextargets", "--format", form, "Created-By: Packages").splitlines()
    entries = [line.split("|") for line in lines if line.count("|") == 2]
    return {label: address for origin, label, address in reversed(entries) if origin == "Debian"}


def _import(tree: Path) -> None:
    packing = ["tar", "--directory", str(tree), "--numeric-owner", "--sort=name", "--create", "."]
    loading = [docker(), "import", "--change", 'CMD ["bash"]', "-", IMAGE]
    with subprocess.Popen(packing, stdout=subprocess.PIPE) as packer:
        done = subprocess.run(loading, stdin=packer.stdout, capture_output=True, text=True, check=False)
    if done.returncode != 0 or packer.returncode != 0:
        raise FailedError(f"{IMAGE} could not be imported: {done.stderr.strip()}", next="look at the engine's log")
