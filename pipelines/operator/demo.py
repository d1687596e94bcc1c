"""The demonstration: versions all the way to production, one stopped, one rolled back.

It trains in a copy of the working tree under the home, so that the working tree stays as it was.
"""

import dataclasses
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipelines.api.client import ApiClient, take_to_production
from pipelines.documents import read_yaml
from pipelines.domain.release import Environment
from pipelines.errors import GateFailed, Inconclusive, SlipwayError, UsageError
from pipelines.operator.candidate import train_and_register
from pipelines.operator.demo_model import second_project
from pipelines.operator.health import read_health
from pipelines.operator.models import add_model
from pipelines.operator.policy_file import read_policy_file
from pipelines.operator.tables import render
from pipelines.operator.up import bring_up, urls
from pipelines.settings.models import ModelProject
from pipelines.settings.settings import Settings
from pipelines.settings.tokens import APPROVER, OPERATOR, own_token

ProgressReporter = Callable[[str], None]
STRICT_ACCURACY = 0.9
# How often a version is measured whose load run could not decide.
ATTEMPTS = 3
# Regularisation of the three versions: all good models, none the same.
STRENGTHS = (1.0, 0.3, 3.0)


def run_demo(
    settings: Settings, environ: Mapping[str, str], report_progress: ProgressReporter, *, models: int = 1
) -> None:
    """Run every step and print the table; raise SlipwayError at the first step that goes otherwise.

    With two `models` a second one goes to production beside the first.
    """
    rows: list[tuple[str, str, str]] = []

    @contextmanager
    def step(name: str) -> Iterator[list[str]]:
        report_progress(f"--- {name}")
        begun, told = time.monotonic(), [""]
        yield told
        rows.append((name, told[0], f"{time.monotonic() - begun:.1f}"))

    begun = time.monotonic()
    with step("start everything") as told:
        bring_up(settings, environ, report_progress)
        told[0] = urls(settings)["mlflow"]
    tokens = (own_token(settings.tokens_file, person, verb="make demo") for person in (OPERATOR, APPROVER))
    alice, bob = (ApiClient(settings, token) for token in tokens)
    demo_policy = read_policy_file(settings.project / "policy.demo.yaml")
    with step("apply policy.demo.yaml") as told:
        told[0] = _apply_policy(alice, demo_policy, report_progress)
    tree = dataclasses.replace(settings, project=_copy_tree(settings))
    champion = ""
    for strength in STRENGTHS[:2]:
        with step("train, register and stage a version") as told:
            version = _candidate(alice, tree, environ, strength, report_progress)
            told[0] = f"v{version} {urls(settings)['staging']}"
        with step(f"promote v{version}, approved by another person") as told:
            champion, told[0] = version, _promote(alice, bob, version, report_progress)
            _require(read_health(settings, Environment.PRODUCTION)["version"] == version, f"v{version} does not serve")
    with step(f"apply a stricter policy: accuracy >= {STRICT_ACCURACY}") as told:
        told[0] = _apply_policy(alice, stricter(demo_policy), report_progress)
    with step("a version that the policy stops") as told:
        told[0] = _stopped(alice, tree, environ, report_progress)
    with step(f"roll back v{champion}") as told:
        told[0] = _roll_back(alice, settings, report_progress)
    with step("apply policy.demo.yaml again") as told:
        told[0] = _apply_policy(alice, demo_policy, report_progress)
    if models > 1:
        _bring_second(step, second_project(tree.project, demo_policy), settings, environ, report_progress)
    rows.append(("all", "everything is left running: make status, make down", f"{time.monotonic() - begun:.1f}"))
    print(render(("step", "result", "seconds"), rows))
    print(render(("open", "url"), list(urls(settings).items())))


def _bring_second(
    step: Callable[[str], AbstractContextManager[list[str]]],
    second: ModelProject,
    settings: Settings,
    environ: Mapping[str, str],
    report_progress: ProgressReporter,
) -> None:
    """Add a second model to the running installation, and bring a version of it to production beside the first."""
    tokens = [own_token(settings.tokens_file, person, verb="make demo") for person in (OPERATOR, APPROVER)]
    with step(f"add the model {second.name}") as told:
        add_model(settings, environ, str(second.folder), tokens[0], report_progress)
        told[0] = settings.address(settings.endpoint(Environment.PRODUCTION, second.name))
    alice, bob = (ApiClient(settings, token, model=second.name) for token in tokens)
    with step(f"train, register and stage {second.name}") as told:
        version = train_and_register(settings, environ, report_progress, project=second.folder)["model_version"]
        _evaluate(alice, version, report_progress)
        told[0] = f"v{version}"
    with step(f"promote {second.name} v{version}, approved by another person") as told:
        told[0] = _promote(alice, bob, version, report_progress)
    with step("both models serve production") as told:
        served = [read_health(settings, Environment.PRODUCTION, each.name) for each in settings.models]
        told[0] = ", ".join(f"{each['model']} v{each['version']}" for each in served)
        _require(all(each["status"] == "ok" for each in served), f"not both serve: {told[0]}")


def _copy_tree(settings: Settings) -> Path:
    """Copy what git tracks, as it stands in the working tree, into a clone under the home."""
    tree = settings.demo_tree
    shutil.rmtree(tree, ignore_errors=True)
    tree.parent.mkdir(parents=True, exist_ok=True)
    _git(settings.project, "clone", "--quiet", "--no-checkout", str(settings.project), str(tree))
    listed = _git(settings.project, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        source, copy = settings.project / name, tree / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    _git(tree, "reset", "--quiet")
    return tree


def _git(where: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=True, timeout=120)
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", None) or str(error)
        raise UsageError(
            f"git {arguments[0]} failed in {where}: {why.strip()}", next="run it in a git clone"
        ) from error
    return done.stdout


def _candidate(
    client: ApiClient, tree: Settings, environ: Mapping[str, str], strength: float, report_progress: ProgressReporter
) -> str:
    """Train a version of the demonstration's model, and evaluate it into staging."""
    path = tree.project / "model.yaml"
    described = read_yaml(path)
    described["estimator"]["parameters"]["C"] = strength
    path.write_text(yaml.safe_dump(described, sort_keys=False))
    version = train_and_register(tree, environ, report_progress)["model_version"]
    _evaluate(client, version, report_progress)
    return version


def _evaluate(client: ApiClient, version: str, report_progress: ProgressReporter) -> None:
    """Evaluate a version into staging, again where the load run could not decide."""
    for left in reversed(range(ATTEMPTS)):
        try:
            client.ask("/evaluations", {"version": version}, report_progress)
            break
        except Inconclusive as undecided:
            # A busy machine makes a load run inconclusive: what people would do then is to measure again.
            if not left:
                raise
            report_progress(f"{undecided.message}\n--- measuring v{version} again")


def _promote(alice: ApiClient, bob: ApiClient, version: str, report_progress: ProgressReporter) -> str:
    done = take_to_production(alice, bob, version, report_progress)
    archived = f" (archived v{done['archived']})" if done["archived"] else ""
    return f"Promoted {done['model']} v{version} -> Production{archived}"


def _stopped(client: ApiClient, tree: Settings, environ: Mapping[str, str], report_progress: ProgressReporter) -> str:
    try:
        _candidate(client, tree, environ, STRENGTHS[2], report_progress)
    except GateFailed as refusal:
        report_progress(refusal.message)
        return refusal.message
    raise SlipwayError("the stricter policy stopped nothing", next='see "slipway audit"')


def _roll_back(client: ApiClient, settings: Settings, report_progress: ProgressReporter) -> str:
    done = client.ask("/rollbacks", {"environment": "production"}, report_progress)
    served = read_health(settings, Environment.PRODUCTION)["version"]
    _require(served == done["version"], f"production serves v{served} after the rollback")
    return f"v{done['replaced']} -> v{done['version']}"


def _apply_policy(client: ApiClient, body: dict[str, Any], report_progress: ProgressReporter) -> str:
    return str(client.ask("/policy", {"policy": body}, report_progress)["digest"])


def stricter(policy: dict[str, Any]) -> dict[str, Any]:
    """Return a policy that the demonstration's third version does not pass."""
    return {**policy, "gates": {**policy["gates"], "accuracy": {"minimum": STRICT_ACCURACY}}}


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise SlipwayError(otherwise, next='see "slipway doctor"')
