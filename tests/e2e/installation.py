"""A whole installation for end-to-end tests: own home, free ports, real processes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench.support.place import TOOLS
from pipelines.adapters.local.installation import LocalInstallation
from pipelines.api.client import ApiClient
from pipelines.settings.settings import Settings
from pipelines.settings.tokens import OPERATOR, own_token
from pipelines.wiring.processes import TEST_MARK
from pipelines.wiring.targets import open_installation
from tests.support.servers.servers import free_port
from tests.support.world.verbs import run_module

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 600.0
# It measures three versions, each of them up to three times on a busy machine.
DEMO_DEADLINE_S = 1500.0
UNDECIDED = 4
PORTS = ("STAGING", "PRODUCTION", "API", "MLFLOW", "S3", "IMAGES")

# Of what a replica inherits, this directory comes first in the search for shared libraries: a broken one in
# it makes every new replica crash, and leaves the running ones alone.
BROKEN_LIBRARY = "libstdc++.so.6"


def clone(place: Path) -> Path:
    """Make a working tree of its own, of what is committed here; return it."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
    return place


def ask_for_less_load(project: Path) -> None:
    """Let the demonstration of a working tree measure the same, at half the rate for half the time."""
    file = project / "policy.demo.yaml"
    body = yaml.safe_load(file.read_text())
    body["slo"] |= {"rate_per_s": body["slo"]["rate_per_s"] / 2, "duration_s": body["slo"]["duration_s"] / 2}
    file.write_text(yaml.safe_dump(body))


class Installation:
    """Calls `slipway` as a user would, on an installation that no other touches; `told` is all that it has said."""

    def __init__(self, directory: Path, *, tree: Path | None = None, **environ: str) -> None:
        """Prepare one in `directory`, for the project in `tree`, or else for the one that the demonstration makes."""
        self.home = directory / "home"
        self.home.mkdir(mode=0o700)
        (self.home / TEST_MARK).touch()
        self.libraries = directory / "libraries"
        self.libraries.mkdir()
        ports = {f"SLIPWAY_PORT_{name}": str(free_port()) for name in PORTS}
        self.environ = {
            **{k: v for k, v in os.environ.items() if k in TOOLS or not k.startswith(("SLIPWAY_", "TARGET"))},
            **ports,
            **environ,
            **({"SLIPWAY_PROJECT": str(tree)} if tree else {}),
            "SLIPWAY_HOME": str(self.home),
            "LD_LIBRARY_PATH": str(self.libraries),
        }
        self.settings = Settings.from_environ(self.environ)
        self.tree = tree or self.home / "demo" / "tree"
        self.told: list[str] = []
        self._staged: tuple[str, str] | None = None

    def slipway(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        """Run one verb to its end."""
        timeout_s = DEMO_DEADLINE_S if arguments[0] == "demo" else DEADLINE_S
        ended = run_module(
            "pipelines.cli", arguments, cwd=ROOT, environ={**self.environ, **environ}, timeout_s=timeout_s
        )
        self.told += [ended.stdout, ended.stderr]
        return ended

    def done(self, *arguments: str, **environ: str) -> str:
        """Run one verb that must succeed, and return its result."""
        ended = self.slipway(*arguments, **environ)
        assert ended.returncode == 0, f"{arguments} ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    def decided(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a verb that measures, up to three times: a busy machine may keep it from deciding, which is no answer."""
        for _ in range(3):
            ended = self.slipway(*arguments)
            if ended.returncode != UNDECIDED:
                break
        return ended

    def read(self, *arguments: str) -> dict[str, Any]:
        """Run one verb with --json and return its object, whatever its exit code."""
        body: dict[str, Any] = json.loads(self.slipway(*arguments, "--json").stdout)
        return body

    def ask(self, path: str) -> dict[str, Any]:
        """Return what the API answers the operator, at a fraction of what a verb takes to start."""
        return ApiClient(self.settings, own_token(self.settings.tokens_file, OPERATOR, verb="up")).get(path)

    def releases(self) -> list[dict[str, Any]]:
        """Return production's releases, oldest first."""
        return [each for each in self.ask("/releases")["releases"] if each["environment"] == "production"]

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start one verb and return while it runs."""
        command = [sys.executable, "-m", "pipelines.cli", *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def health(self, environment: str) -> dict[str, Any]:
        """Ask a service what it serves."""
        port = {"staging": self.settings.staging_port, "production": self.settings.production_port}[environment]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            body: dict[str, Any] = json.load(answer)
        return body

    def register(self, tree: Path | None = None) -> str:
        """Register what the demonstration, or another tree, trained last as one more version, without evaluating it."""
        tree = tree or self.tree
        words = ["--tracking-uri", self.settings.mlflow_url, "--root", str(tree)]
        environ = self.environ | open_installation(self.settings, self.environ).trainer()
        ended = run_module("pipelines.wiring.register", words, cwd=tree, environ=environ, timeout_s=DEADLINE_S)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return str(json.loads(ended.stdout.splitlines()[-1])["model_version"])

    def staged(self) -> str:
        """Return a version that passed staging against today's champion and may be promoted at once."""
        champion = self.health("production")["version"]
        if self._staged is None or self._staged[1] != champion:
            version = self.register()
            ended = self.decided("deploy-staging", "--version", version)
            assert ended.returncode == 0, ended.stdout + ended.stderr
            self._staged = (version, champion)
        return self._staged[0]

    def evidence(self, version: str, name: str) -> bytes:
        """Return a file that hangs on the run of one of its versions."""
        url = f"{self.settings.mlflow_url}/api/2.0/mlflow/model-versions/get?name=churn-model&version={version}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            run = json.load(answer)["model_version"]["run_id"]
        url = f"{self.settings.mlflow_url}/get-artifact?run_id={run}&path=evidence/{name}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            content: bytes = answer.read()
        return content

    def apply_policy(self, accuracy: float = 0.78, sets: Mapping[str, Any] | None = None, **slo: Any) -> None:
        """Put the quickest policy in force that the gates accept, with `slo` in place of what it says there.

        `sets` are further evaluation sets by name.
        """
        body = yaml.safe_load((ROOT / "policy.demo.yaml").read_text())
        body["gates"]["accuracy"]["minimum"] = accuracy
        body["evaluation"]["sets"] = dict(sets or {})
        body["slo"]["comparison"] = False
        body["slo"] |= {"rate_per_s": 100, "warmup_s": 1, "duration_s": 10}
        body["slo"]["quantiles"] = [{"quantile": 0.95, "limit_ms": 2000, "judged": True}]
        body["slo"] |= slo
        file = self.home / "policy.test.yaml"
        file.write_text(yaml.safe_dump(body))
        self.done("policy", "apply", str(file))

    def first_version(self) -> str:
        """Train a version in the tree, and take it to production; return it."""
        ended = self.decided("candidate")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        version = str(self.health("staging")["version"])
        printed, told = self.ask_and_approve(version).communicate(timeout=DEADLINE_S)
        assert printed.strip() == f"Promoted churn-model v{version} -> Production", told
        return version

    def ask_and_approve(self, version: str) -> "subprocess.Popen[str]":
        """Start `promote`, wait until it waits for people, and say yes as bob."""
        waiting = self.begin("promote", "--version", version)
        try:
            self.await_state(version, "waiting", waiting)
            self.done("approve", "--version", version, "--as", "bob")
        except BaseException:
            waiting.kill()
            raise
        return waiting

    def await_state(self, version: str, state: str, asking: "subprocess.Popen[str]") -> None:
        """Wait until the newest promotion of `version` is in `state`."""

        def reached() -> bool:
            assert asking.poll() is None, f"promote ended early: {asking.communicate()}"
            unfinished = self.ask("/status")["unfinished"]
            return any(w["version"] == version and w["state"] == state for w in unfinished if w["id"].startswith("p-"))

        self.wait_for(reached, f"promotion of {version} to be {state}")

    def wait_for(self, reached: Callable[[], bool], what: str) -> None:
        """Poll until `reached`, or fail with what the installation says of itself."""
        deadline = time.monotonic() + DEADLINE_S
        while not reached():
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {what}\n{self.slipway('status').stdout}")
            time.sleep(0.2)

    def await_content(self) -> None:
        """Wait until the doctor finds nothing broken."""
        self.wait_for(lambda: self.slipway("doctor").returncode == 0, "the doctor to be content")

    def process(self, name: str) -> psutil.Process | None:
        """Return a part's process, if it runs."""
        return LocalInstallation(self.settings, self.environ, lambda pid: True, lambda: None).running().get(name)

    def kill(self, name: str) -> None:
        """SIGKILL one part and wait for its end."""
        process = self.process(name)
        assert process is not None, f"{name} does not run"
        os.killpg(process.pid, signal.SIGKILL)
        self.wait_for(lambda: self.process(name) is None, f"{name} to end")

    def restart_executor(self, **environ: str) -> None:
        """End the executor and start it with these settings."""
        process = self.process("executor")
        if process is not None:
            process.terminate()
            self.wait_for(lambda: self.process("executor") is None, "the executor to end")
        self.done("up", **environ)

    def remove(self) -> None:
        """Stop everything and delete it."""
        ended = self.slipway("down")
        shutil.rmtree(self.home, ignore_errors=True)
        assert ended.returncode == 0, ended.stderr
