"""Runs Terraform on a copy of its sources in the home, where its state, provider and lock file stay too.

What it is told stands in a variables file without any secret value.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.disk import write_whole
from pipelines.errors import Refused, SlipwayError, Undecided, UsageError

OLDEST = (1, 11)
INIT_S = 180.0
APPLY_S = 900.0
# How long an interrupted Terraform may take to end what it has begun.
END_S = 240.0
# What belongs to the sources: the rest of the folder makes images and tools.
_SOURCES = ("*.tf", "modules/*/*.tf", "modules/*/*.tftpl")
_CHANGES = 2
_QUOTED = re.compile(r"\s*(\d+:|on \S+ line \d+|├|This was checked by)")

Variables = Mapping[str, Any]
Watch = Callable[[], None]


class Terraform:
    """The root module in `sources`, worked on in the folder `work`.

    `settings` is Terraform's own settings file, which names the provider that was made here. It is used where it is
    there and the environment names no other that is.
    """

    def __init__(self, sources: Path, work: Path, environ: Mapping[str, str], settings: Path) -> None:
        self._sources = sources
        self._work = work
        self._copy = work / "root"
        self._state = work / "terraform.tfstate"
        self._variables = work / "variables.tfvars.json"
        self._cut_off = work / "cut-off"
        found = [path for path in (environ.get("TF_CLI_CONFIG_FILE"), settings) if path and Path(path).exists()]
        named = {"TF_CLI_CONFIG_FILE": str(found[0])} if found else {}
        own = {"TF_DATA_DIR": str(work / "data"), "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1"}
        given = {name: value for name, value in environ.items() if not name.startswith(("TF_CLI_ARGS", "TF_VAR_"))}
        self._environ = {**given, **named, **own}

    def apply(self, variables: Variables, watch: Watch = lambda: None) -> None:
        """Make everything as the sources say; `watch` is called about every second meanwhile.

        Raises Refused with the holder when another Terraform is at it, UsageError for variables that the sources
        refuse, and Undecided with Terraform's reasons when not all came about: doing it again goes on from there.
        """
        former = self._variables.with_suffix(".former")
        former.unlink(missing_ok=True)
        if self._variables.exists():
            shutil.copyfile(self._variables, former)
        self._prepare(variables)
        try:
            self._change("apply", watch)
        except UsageError:
            # Nothing was changed: what is there can be stopped and removed by the variables that made it.
            if former.exists():
                former.replace(self._variables)
            raise
        former.unlink(missing_ok=True)

    def destroy(self, variables: Variables, watch: Watch = lambda: None) -> None:
        """Remove everything that the state knows."""
        if self.exists():
            self._prepare(variables)
            self._change("destroy", watch)

    def plan(self, variables: Variables) -> str:
        """Return what an apply would change, an empty text when nothing."""
        self._prepare(variables)
        done = self._run("plan", "-detailed-exitcode", f"-var-file={self._variables}", limit_s=APPLY_S)
        if done.returncode not in (0, _CHANGES):
            raise _refusal("plan", done.stderr)
        return done.stdout if done.returncode == _CHANGES else ""

    def outputs(self) -> dict[str, Any]:
        """Return the outputs of the last apply."""
        done = self._run("output", "-json", limit_s=INIT_S)
        if done.returncode != 0:
            raise _refusal("output", done.stderr)
        return {name: output["value"] for name, output in json.loads(done.stdout).items()}

    def exists(self) -> bool:
        """Whether anything was ever applied from here."""
        return self._state.exists()

    def variables(self) -> dict[str, Any]:
        """Return the variables of the last run, empty before the first."""
        if not self._variables.exists():
            return {}
        return _read_object(
            self._variables,
            'remove it: then "make up" writes it anew by the same settings as before, and "make destroy" needs none',
        )

    def cut_off(self) -> datetime | None:
        """Return when the last change began, if its process was killed before it ended."""
        if not self._cut_off.exists():
            return None
        try:
            return datetime.fromisoformat(self._cut_off.read_text())
        except ValueError:
            # A disk that was full when it was written leaves it without its content.
            return datetime.fromtimestamp(self._cut_off.stat().st_mtime, UTC)

    def known_ids(self) -> set[str]:
        """Return the ids of all that the state knows."""
        if not self.exists():
            return set()
        state = _read_object(self._state, f"put {self._state.name}.backup, which is beside it, in its place")
        resources = state.get("resources", [])
        return {str(each["attributes"].get("id")) for resource in resources for each in resource["instances"]}

    def _prepare(self, variables: Variables) -> None:
        self._check_version()
        self._work.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(self._copy, ignore_errors=True)
        for path in (path for pattern in _SOURCES for path in self._sources.glob(pattern)):
            copy = self._copy / path.relative_to(self._sources)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        write_whole(self._variables, json.dumps(variables, indent=1, sort_keys=True))
        done = self._run("init", "-reconfigure", f"-backend-config=path={self._state}", limit_s=INIT_S)
        if done.returncode != 0:
            raise _refusal("init", done.stderr)

    def _change(self, verb: str, watch: Watch) -> None:
        if not self._cut_off.exists():
            write_whole(self._cut_off, datetime.now(UTC).isoformat())
        done = self._run(verb, "-auto-approve", f"-var-file={self._variables}", limit_s=APPLY_S, watch=watch)
        # A negative code is a signal's: what it was making then, the state may not know.
        if done.returncode >= 0:
            self._cut_off.unlink(missing_ok=True)
        if done.returncode != 0:
            raise _refusal(verb, done.stderr)

    def _check_version(self) -> None:
        found = self._run("version", "-json", limit_s=INIT_S)
        try:
            version = str(json.loads(found.stdout)["terraform_version"])
        except (ValueError, KeyError):
            raise UsageError("terraform does not tell its version", next=_install()) from None
        numbers = re.match(r"(\d+)\.(\d+)", version)
        if numbers is None or (int(numbers[1]), int(numbers[2])) < OLDEST:
            raise UsageError(f"terraform is {version}, which is too old", next=_install())

    def _run(
        self, verb: str, *words: str, limit_s: float, watch: Watch = lambda: None
    ) -> "subprocess.CompletedProcess[str]":
        place = [f"-chdir={self._copy}"] if self._copy.exists() else []
        color = ["-no-color"] if verb != "version" else []
        try:
            process = subprocess.Popen(
                ["terraform", *place, verb, *color, *words],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                # Ctrl-C reaches it through `_ended` alone, once.
                start_new_session=True,
            )
        except FileNotFoundError:
            raise UsageError("there is no terraform on this machine", next=_install()) from None
        output, errors = _ended(process, time.monotonic() + limit_s, watch)
        return subprocess.CompletedProcess([verb], process.returncode, output, errors)


def find_settings(environ: Mapping[str, str], root: Path) -> Path:
    """Return where Terraform's settings are when the provider was made on this machine."""
    return Path(environ.get("SLIPWAY_TOOLS") or root / ".tools") / "terraform.rc"


def _read_object(path: Path, next: str) -> dict[str, Any]:
    """Return a JSON object that Terraform is given or keeps; raise UsageError when the file has lost it."""
    try:
        kept = json.loads(path.read_text())
    except ValueError:
        kept = None
    if not isinstance(kept, dict):
        raise UsageError(f"{path} is damaged", next=next)
    return kept


def _ended(process: "subprocess.Popen[str]", deadline: float, watch: Watch) -> tuple[str, str]:
    """Wait for the end; at the deadline or at Ctrl-C let it end what it has begun."""
    try:
        while True:
            try:
                return process.communicate(timeout=1.0)
            except subprocess.TimeoutExpired:
                watch()
            if time.monotonic() > deadline:
                return _stopped(process)
    except BaseException:
        _stopped(process)
        raise


def _stopped(process: "subprocess.Popen[str]") -> tuple[str, str]:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=END_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()


def _refusal(verb: str, text: str) -> SlipwayError:
    """Return the refusal that Terraform's words amount to."""
    plain = "\n".join(line.lstrip("│╷╵ ").rstrip() for line in text.splitlines())
    if "acquiring the state lock" in plain:
        told = dict(re.findall(r"^(Who|Operation|Created):\s+(.+)$", plain, re.MULTILINE))
        return Refused(
            f"another terraform is at work here: {told.get('Operation', '')} by {told.get('Who', 'somebody')}"
            f" since {told.get('Created', 'unknown')}",
            next="wait for it to end, then do it again",
        )
    what = "\n".join(_errors(plain)) or plain.strip()[-500:] or "it says nothing"
    if "query available provider packages" in plain or "provider registry" in plain.lower():
        return UsageError(
            f"terraform finds no provider: {what}", next='on a closed network "make offline"; else look at the network'
        )
    if re.search("Invalid value for (input )?variable", plain):
        return UsageError(f"terraform refuses a setting: {what}", next="correct it, then do it again")
    return Undecided(f"terraform {verb}: {what}", next='fix what it names, then "make up" again')


def _errors(plain: str) -> list[str]:
    """Return Terraform's errors, each with what explains it but without the source lines it quotes."""
    told = "\n".join(line for line in plain.splitlines() if not _QUOTED.match(line))
    parts = re.split(r"^Error: ", told, flags=re.MULTILINE)[1:]
    return [" ".join(part.split())[:600] for part in parts[:5]]


def _install() -> str:
    return "install Terraform " + ".".join(map(str, OLDEST)) + " or later"
