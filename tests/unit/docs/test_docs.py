"""The documents say what the Makefile, the command line, the policy and the tree say."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from bench import BENCHMARKS
from pipelines.cli import app
from pipelines.errors import SlipwayError
from pipelines.evaluation.gates.quality.accuracy import ACCURACY
from pipelines.evaluation.gates.registry import GATES
from pipelines.evaluation.gates.service.slo import SLO
from pipelines.operator.demo import STRICT_ACCURACY, stricter
from pipelines.operator.policy_file import read_policy_file
from pipelines.settings.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
README = ROOT / "README.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
POLICIES = (ROOT / "policy.yaml", ROOT / "policy.demo.yaml")

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_MAKE = re.compile(r"(?<![\w-])make ([a-z][a-z-]*)")
_SLIPWAY = re.compile(r"(?<![\w.-])slipway ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?")
_TARGET = re.compile(r"^([a-z][a-z-]*):(?!=)", re.MULTILINE)
_SETTING = re.compile(r"SLIPWAY_[A-Z_]*[A-Z]")
# Written so that this file does not hold what it looks for.
_FOREIGN = {
    "a path of somebody's machine": re.compile(r"(?<![\w.])/(?:work|root|home|tmp|Users|mnt)[/]"),
    "a folder that is not in the repository": re.compile(r"\bshared[/]"),
    "a package registry": re.compile(
        r"\b(?:pypi|pythonhosted|npmjs|ghcr|quay|gcr|docker|golang|terraform|artifactory|jfrog)\.(?:org|io|com)\b"
    ),
}


@pytest.fixture(params=DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def document(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def code_of(path: Path) -> str:
    """Return what stands in code blocks and in inline code, one piece a line."""
    text = path.read_text()
    return "\n".join([*_FENCE.findall(text), *_INLINE.findall(_FENCE.sub("", text))])


def make_targets() -> set[str]:
    return set(_TARGET.findall((ROOT / "Makefile").read_text()))


@cache
def cli_verbs() -> dict[str, bool]:
    """Return each verb, as "policy apply" within a group, and whether help hides it."""
    found: dict[str, bool] = {}
    command: Any = typer.main.get_command(app)
    for name, verb in command.commands.items():
        for inner, sub in getattr(verb, "commands", {"": verb}).items():
            found[f"{name} {inner}".strip()] = bool(sub.hidden or verb.hidden)
    return found


def slipway_calls(path: Path) -> Iterator[str]:
    groups = {verb.split()[0] for verb in cli_verbs() if " " in verb}
    for verb, inner in _SLIPWAY.findall(code_of(path)):
        yield f"{verb} {inner}".strip() if verb in groups else verb


def anchors_of(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def keys_of(section: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in section.items():
        if isinstance(value, dict) and value:
            yield from keys_of(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def table_keys(path: Path, heading: str) -> set[str]:
    """Return the first cells, in code, of the tables under `heading`."""
    section = re.split(rf"^#+ {heading}\n", path.read_text(), maxsplit=1, flags=re.MULTILINE)[1].split("\n## ", 1)[0]
    return set(re.findall(r"^\| `([^`]+)`", section, re.MULTILINE))


def test_every_gate_is_in_the_table_of_gates_in_its_order_and_may_be_overridden_as_it_says() -> None:
    table = re.findall(
        r"^\| `(\w+)` \| .* \| (yes|no) \|$", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE
    )

    assert table == [(gate.name, "yes" if gate.overridable else "no") for gate in GATES.all]


def test_every_make_target_in_a_document_exists(document: Path) -> None:
    assert set(_MAKE.findall(code_of(document))) <= make_targets()


def test_every_make_target_is_in_the_readme() -> None:
    assert make_targets() - set(_MAKE.findall(code_of(README))) == set()


def test_every_verb_in_a_document_exists(document: Path) -> None:
    assert set(slipway_calls(document)) <= set(cli_verbs())


def test_every_verb_is_in_the_readme() -> None:
    shown = {verb for verb, hidden in cli_verbs().items() if not hidden}
    assert shown - set(slipway_calls(README)) == set()


def test_the_readme_shows_the_digests_of_the_demonstrations_policies() -> None:
    shown = re.findall(r"sha256:[0-9a-f]{64}", README.read_text().split("<!-- demo-output -->")[1].split("\n## ")[0])
    policy = read_policy_file(ROOT / "policy.demo.yaml")
    weak, strict = (GATES.read_policy(each).digest for each in (policy, stricter(policy)))
    assert shown == [weak, strict, weak]


def test_every_internal_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCE.sub("", document.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("what", _FOREIGN)
def test_no_document_leans_on(document: Path, what: str) -> None:
    assert _FOREIGN[what].findall(document.read_text()) == []


def test_every_policy_key_is_explained_and_no_other() -> None:
    explained = table_keys(ROOT / "docs" / "operations.md", "Policies")
    for path in POLICIES:
        keys = keys_of(yaml.safe_load(path.read_text()))
        # Those of gates are explained by the gates themselves, in docs/reference/gates.md.
        assert explained == {key for key in keys if not key.startswith("gates.")}, path.name


def test_every_benchmark_is_listed_and_no_other() -> None:
    assert table_keys(ROOT / "docs" / "benchmarks.md", "Benchmarks") == set(BENCHMARKS)


def test_limits_quoted_in_a_document_are_those_of_a_policy(document: Path) -> None:
    policies = [GATES.read_policy(yaml.safe_load(path.read_text())) for path in POLICIES]
    latencies = {(f"{q.quantile * 100:g}", q.limit_ms) for policy in policies for q in SLO.limits_of(policy).quantiles}
    accuracies = {ACCURACY.limits_of(policy).minimum for policy in policies} | {STRICT_ACCURACY}
    text = document.read_text()
    quoted = re.findall(r"\bp(\d+(?:\.\d+)?) <= (\d+(?:\.\d+)?) ms", text)
    assert {(quantile, float(limit)) for quantile, limit in quoted} <= latencies
    assert set(map(float, re.findall(r"\baccuracy(?:=[\d.]+)? (?:<|>=) (\d+\.\d+)", text))) <= accuracies


def test_every_setting_in_a_document_is_read_somewhere(document: Path) -> None:
    modules = [path for folder in ("app", "infra", "pipelines") for path in (ROOT / folder).rglob("*.py")]
    known = {name for path in modules for name in _SETTING.findall(path.read_text())}
    assert set(_SETTING.findall(document.read_text())) <= known


def test_no_document_lets_a_manager_listen_on_every_address(document: Path) -> None:
    commands = re.findall(r"docker swarm init.*", code_of(document))
    assert [command for command in commands if "--listen-addr 127.0.0.1" not in command] == []


class Watched(Mapping[str, str]):
    """An empty environment that notes which variables are asked for."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_every_setting_that_is_read_is_listed() -> None:
    environ = Watched()
    Settings.from_environ(environ)
    # Whoever starts a container sets it there.
    assert environ.asked - {"SLIPWAY_STACK"} <= table_keys(ROOT / "docs" / "operations.md", "Settings")
    assert "TARGET" in environ.asked


def test_the_readme_lists_every_exit_code_of_a_refusal() -> None:
    codes = {SlipwayError.exit_code}
    pending = [SlipwayError]
    while pending:
        pending += (kinds := pending.pop().__subclasses__())
        codes |= {kind.exit_code for kind in kinds}
    section = README.read_text().split("\n### Exit codes\n", 1)[1].split("\n## ", 1)[0]
    assert codes | {0} <= set(map(int, re.findall(r"^\| (\d+) \|", section, re.MULTILINE)))


def test_every_decision_is_dated_and_listed() -> None:
    decisions = sorted((ROOT / "docs" / "adr").glob("[0-9]*.md"))
    listed = _LINK.findall((ROOT / "docs" / "adr" / "README.md").read_text())
    assert listed == [path.name for path in decisions]
    for number, path in enumerate(decisions, start=1):
        lines = path.read_text().splitlines()
        assert lines[0].startswith(f"# {number}. ") and path.name.startswith(f"{number:04d}-"), path.name
        assert re.match(r"\d{4}-\d{2}-\d{2} · ", lines[2]), path.name
        assert [line for line in lines if line.startswith("## ")] == ["## Context", "## Decision", "## Consequences"]
