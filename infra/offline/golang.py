"""What is compiled from pinned Go modules: the Terraform provider, into a mirror on disk, and crane.

go.mod and go.sum in `provider/` and `tools/` say what is built, requirements/toolchain.txt by which compiler.
"""

import hashlib
import os
import re
import shutil
import tempfile
import venv
from pathlib import Path

from machine import ROOT, TOOLS, RefusedError, run, say, works

HERE = Path(__file__).resolve().parent
TOOLCHAIN = ROOT / "requirements" / "toolchain.txt"
CRANE = "github.com/google/go-containerregistry/cmd/crane"
PROVIDER = "github.com/terraform-providers/terraform-provider-docker"
PROVIDER_VERSION = "4.6.0"
MIRROR = TOOLS / "terraform" / "providers"
SETTINGS = TOOLS / "terraform.rc"
# Every provider comes from the mirror then: Slipway uses no other.
SETTINGS_TEXT = f'provider_installation {{\n  filesystem_mirror {{\n    path = "{MIRROR}"\n  }}\n}}\n'
USES_PROVIDER = f"""terraform {{
  required_providers {{
    docker = {{
      source  = "kreuzwerker/docker"
      version = "{PROVIDER_VERSION}"
    }}
  }}
}}
"""


def prepare_tools() -> None:
    """Make `bin/crane`."""
    crane = TOOLS / "bin" / "crane"
    if _is_current(crane, HERE / "tools"):
        say(f"tools: skipped, {crane.name} is there")
        return
    if shutil.which("crane"):
        say(f"tools: skipped, {shutil.which('crane')} is on the path")
        return
    say("tools: compiling crane")
    _build(CRANE, HERE / "tools", crane)
    say(f"tools: {crane} made")


def prepare_provider() -> None:
    """Make a mirror with the provider, and the settings file that names it to Terraform."""
    if not shutil.which("terraform"):
        raise RefusedError("no terraform on the path", next="install Terraform 1.11 or later, then run it again")
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "main.tf").write_text(USES_PROVIDER)
        shown = run("terraform", "providers", "-no-color", cwd=place)
        found = re.search(r"provider\[([^/\]]+)/kreuzwerker/docker\]", shown)
        if not found:
            raise RefusedError(f"terraform names no address of the provider:\n{shown}", next="install Terraform 1.11+")
        binary = _place_in_mirror(found[1])
        if SETTINGS.exists() and _is_current(binary, HERE / "provider"):
            say(f"provider: skipped, the mirror has {PROVIDER_VERSION}")
            return
        quick = {**os.environ, "TF_REGISTRY_CLIENT_TIMEOUT": "10", "TF_REGISTRY_DISCOVERY_RETRY": "0"}
        if works("terraform", "init", "-backend=false", "-input=false", cwd=place, environ=quick):
            say("provider: skipped, terraform finds it by itself")
            return
    say("provider: compiling it, which takes some minutes")
    _build(PROVIDER, HERE / "provider", binary, flags=f"-X main.version={PROVIDER_VERSION}")
    SETTINGS.write_text(SETTINGS_TEXT)
    say(f"provider: {PROVIDER_VERSION} made; for Terraform: TF_CLI_CONFIG_FILE={SETTINGS}")


def _place_in_mirror(host: str) -> Path:
    folder = MIRROR / host / "kreuzwerker" / "docker" / PROVIDER_VERSION / "linux_amd64"
    return folder / f"terraform-provider-docker_v{PROVIDER_VERSION}"


def _build(package: str, module: Path, output: Path, *, flags: str = "") -> None:
    """Compile a program of `module` to `output`, which appears whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.parent.parent / f"{output.name}.partial"
    environ = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -trimpath", "GOTOOLCHAIN": "local"}
    ldflags = f"-ldflags=-s -w {flags}".strip()
    run(_go(), "build", ldflags, "-o", str(partial), package, cwd=module, environ=environ)
    partial.replace(output)
    stamp = _stamp(output)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(_digest(module))


def _go() -> str:
    """Return the pinned compiler's command, installing it once."""
    home = TOOLS / "go" / hashlib.sha256(TOOLCHAIN.read_bytes()).hexdigest()[:12]
    go = home / "bin" / "go"
    if not go.exists():
        say("installing the Go compiler")
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run(*pip, "--require-hashes", "--requirement", str(TOOLCHAIN))
    return str(go)


def _is_current(output: Path, module: Path) -> bool:
    """Whether `output` was built from `module` as it is now."""
    stamp = _stamp(output)
    return output.exists() and stamp.exists() and stamp.read_text() == _digest(module)


def _stamp(output: Path) -> Path:
    return TOOLS / "built" / output.name


def _digest(module: Path) -> str:
    parts = [(module / name).read_bytes() for name in ("go.mod", "go.sum")] + [TOOLCHAIN.read_bytes()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
