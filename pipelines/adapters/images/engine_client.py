"""Runs the engine's own command line client, the only one that is sure to know the engine's builder."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipelines.errors import EngineUnavailable

OWN_CLIENT = Path("/usr/bin/docker")
OLDEST = (20, 10)
ANSWER_S = 30.0


class EngineClient:
    """The client of one engine; `program` is its path."""

    def __init__(self, program: str, environ: Mapping[str, str]) -> None:
        self.program = program
        # The builder of engines before 23 is chosen by this variable.
        self.environ = {**environ, "DOCKER_BUILDKIT": "1"}

    @classmethod
    def found(cls, environ: Mapping[str, str]) -> "EngineClient":
        """Return SLIPWAY_DOCKER, else the client that came with the engine, else the one on the path.

        Raises EngineUnavailable when there is none, and unless an engine answers to it that is new enough.
        """
        own = str(OWN_CLIENT) if OWN_CLIENT.exists() else None
        program = environ.get("SLIPWAY_DOCKER") or own or shutil.which("docker", path=environ.get("PATH"))
        if program is None:
            raise EngineUnavailable("there is no docker on this machine", next='install it, or "make offline"')
        client = cls(program, environ)
        client._check_version()
        return client

    def asked(self, *words: str, limit_s: float = ANSWER_S) -> str | None:
        """Return what the client answers, or None when it refuses or takes longer than `limit_s`."""
        try:
            done = self.run(*words, limit_s=limit_s)
        except subprocess.TimeoutExpired:
            return None
        return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None

    def run(self, *words: str, limit_s: float, content: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        """Run the client on `content` to its end, whatever that is."""
        try:
            return subprocess.run(
                [self.program, *words],
                input=content,
                env=self.environ,
                capture_output=True,
                timeout=limit_s,
                check=False,
            )
        except OSError as error:
            raise EngineUnavailable(
                f"{self.program} can't be run: {error.strerror}", next="correct SLIPWAY_DOCKER, or unset it"
            ) from error

    def _check_version(self) -> None:
        try:
            done = self.run("version", "--format", "{{.Server.Version}}", limit_s=ANSWER_S)
        except subprocess.TimeoutExpired:
            raise EngineUnavailable(
                f"the engine has not answered for {ANSWER_S:g} s", next="restart it, or look at its log"
            ) from None
        version = done.stdout.decode(errors="replace").strip()
        if done.returncode != 0 or not version:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it says nothing"]
            raise EngineUnavailable(f"no container engine answers: {lines[-1]}", next='start it, or "make offline"')
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise EngineUnavailable(
                f"the engine is {version}, which is older than {oldest}", next="install a newer one"
            )


def ca_bundle(environ: Mapping[str, str]) -> Path | None:
    """Return the certificates that this machine trusts: SSL_CERT_FILE, else PIP_CERT, else the system's bundle."""
    named = (environ.get("SSL_CERT_FILE"), environ.get("PIP_CERT"), "/etc/ssl/certs/ca-certificates.crt")
    return next((Path(name) for name in named if name and os.path.isfile(name)), None)
