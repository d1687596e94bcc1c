"""The verbs of the operator's machine: bring up, train, examine, remove."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipelines.domain.release import Environment
from pipelines.errors import PolicyInvalid, RegistryUnavailable, SlipwayError, Undecided, UsageError
from pipelines.operator.doctor import Patient, examine, open_intents
from pipelines.settings.settings import Settings, model_name

ProgressReporter = Callable[[str], None]
TRAINING_S = 900.0


def bring_up(settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter) -> None:
    """Make the home and its tokens, start what does not run, and put policy.yaml in force at first."""
    from pipelines.api.auth import make_tokens, read_tokens
    from pipelines.operator.client import ApiClient
    from pipelines.wiring.common import open_installation

    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_tokens(settings.tokens_file)
    open_installation(settings, environ).up(report_progress)
    client = ApiClient(settings, read_tokens(settings.tokens_file)["alice"])
    if client.get("/policy")["policy"] is None:
        client.ask("/policy", {"policy": read_policy_file(settings.project / "policy.yaml")}, report_progress)
        report_progress("policy.yaml is in force")
    for name, url in urls(settings).items():
        report_progress(f"{name:11} {url}")


def urls(settings: Settings) -> dict[str, str]:
    """Return what can be opened in a browser."""
    return {
        "staging": f"{settings.url(settings.staging_port)}/docs",
        "production": f"{settings.url(settings.production_port)}/docs",
        "api": f"{settings.api_url}/docs",
        "mlflow": settings.mlflow_url,
    }


def destroy_home(settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter) -> None:
    """Stop everything and delete the home, if it is one."""
    from pipelines.wiring.common import open_installation

    if not settings.home.exists():
        raise UsageError(f"there is no {settings.home}", next="nothing to destroy")
    if not settings.tokens_file.exists():
        raise UsageError(f"{settings.home} is not a Slipway home", next="set SLIPWAY_HOME to one")
    open_installation(settings, environ).destroy(report_progress)
    shutil.rmtree(settings.home)
    report_progress(f"removed {settings.home}")


def read_policy_file(path: Path) -> dict[str, Any]:
    """Return the parsed YAML of a policy file; raise PolicyInvalid when it is none."""
    import yaml

    try:
        body = yaml.load(path.read_text(), _unambiguous_loader())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PolicyInvalid(f"{path} can't be read: {error}", next="policy.yaml shows the form") from error
    if not isinstance(body, dict):
        raise PolicyInvalid(f"{path} holds no policy", next="policy.yaml shows the form")
    return body


def _unambiguous_loader() -> Any:
    """Return PyYAML's safe loader, but one that refuses a key given twice: nobody knows which is meant."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(None, None, f"{twice!r} is given twice", node.start_mark)
            return dict(super().construct_mapping(node, deep))

    return Loader


def train_and_register(
    settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter
) -> dict[str, str]:
    """Run `dvc repro` in the project and register its result; return run_id, accuracy, model_version."""
    from pipelines.wiring.common import open_installation

    path = f"{Path(sys.executable).parent}{os.pathsep}{environ.get('PATH', '')}"
    trainer = open_installation(settings, environ).trainer()
    child = {**settings.child_environ(environ), **trainer, "PATH": path, "DVC_NO_ANALYTICS": "1"}
    _run([sys.executable, "-m", "dvc", "repro"], settings.project, child, report_progress)
    command = [sys.executable, "-m", "pipelines.training.register"]
    command += ["--tracking-uri", settings.mlflow_url, "--root", str(settings.project)]
    registered: dict[str, str] = json.loads(_run(command, settings.project, child, report_progress).splitlines()[-1])
    return registered


def read_health(settings: Settings, environment: Environment) -> dict[str, Any]:
    """Ask an environment what it serves; raise Undecided when it does not answer."""
    from pipelines.operator.client import direct_opener

    url = settings.url(settings.port(environment))
    try:
        with direct_opener(settings).open(f"{url}/health", timeout=5) as response:
            body: dict[str, Any] = json.load(response)
    except OSError as error:
        raise Undecided(f"{environment} at {url} does not answer: {error}", next='"slipway logs"') from error
    return body


def run_doctor(settings: Settings, environ: Mapping[str, str]) -> dict[str, Any]:
    """Return `invariants`, each with id, holds and detail, and `open_intents`, the intents that were cut off."""
    from pipelines.wiring.common import open_installation

    if not settings.home.exists():
        raise UsageError(f"there is no {settings.home}", next='run "make up" first')
    if settings.runtime is None:
        told = open_installation(settings, environ).doctor()
        if told is not None:
            return told
    return _examined(settings)


def _examined(settings: Settings) -> dict[str, Any]:
    from pipelines.wiring.common import open_bundles, open_checkpoints, open_records, open_target, open_versions

    model = model_name(settings.project)
    records = open_records(settings)
    versions = open_versions(settings)
    patient = Patient(
        model=model,
        records=records,
        checkpoints=open_checkpoints(settings),
        target=open_target(settings),
        bundles=open_bundles(settings),
        aliases=lambda: versions.aliases(model),
        process=Path("/proc/1/status") if settings.runtime else None,
    )
    return {
        "invariants": [vars(invariant) for invariant in examine(patient)],
        "open_intents": [vars(entry) for entry in open_intents(records.audit_trail())],
    }


def run_executor(settings: Settings, environ: Mapping[str, str]) -> None:
    """Serve as the executor until SIGTERM."""
    from pipelines.executor.scheduler import serve
    from pipelines.wiring.common import build_services, open_engine, prepare_tables

    settings.sign_of_life.touch()
    prepare_tables(settings)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for noisy in ("httpx", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    services = build_services(settings, executor=uuid.uuid4().hex[:12], environ=environ)
    show_life = settings.sign_of_life.touch
    serve(services, open_engine(settings), model=model_name(settings.project), show_life=show_life, stop=stop)


def _run(command: list[str], cwd: Path, environ: Mapping[str, str], report_progress: ProgressReporter) -> str:
    """Run a command, passing its standard error on, and return its output; raise its refusal."""
    process = subprocess.Popen(
        command, cwd=cwd, env=dict(environ), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    try:
        output, _ = process.communicate(timeout=TRAINING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Undecided(f"{' '.join(command[1:4])} took more than {TRAINING_S:g} s", next="run it by hand") from None
    if process.returncode == 0:
        return output
    for line in output.splitlines()[-15:]:
        report_progress(line)
    what = f"{' '.join(command[1:4])} ended with {process.returncode}"
    if process.returncode == RegistryUnavailable.exit_code:
        raise RegistryUnavailable(what, next='run "make up", then again; nothing was changed')
    if process.returncode == UsageError.exit_code:
        raise UsageError(what, next="mend what it names above")
    raise SlipwayError(what, next="mend what it names above")
