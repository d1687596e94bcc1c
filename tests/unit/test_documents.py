"""Documents of strangers are read or refused soon, whatever they ask of a parser."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.documents import MAX_BYTES, MAX_DEPTH, MAX_NODES, DocumentError, parse_json, parse_yaml, read_yaml
from pipelines.errors import SlipwayError
from pipelines.operator.policy_file import read_policy_file
from pipelines.packaging.mlmodel import FILE, read_mlmodel
from pipelines.settings.settings import ROOT
from pipelines.training.lineage import drop_spoiled
from pipelines.training.model_file import ModelFile

# How it is called -> the text, and what is said of it.
HOSTILE = {
    "brackets": ("[" * 100_000, "nested more than 64 deep"),
    "brackets in lines": ("[\n" * 50_000, "nested more than 64 deep"),
    "braces": ("{" * 100_000, "nested more than 64 deep"),
    "lists in lists": ("- " * 50_000, "nested more than 64 deep"),
    "keys of keys": ("? " * 50_000, "nested more than 64 deep"),
    "aliases of aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)),
        "more than 20,000 parts",
    ),
    "an alias within itself": ("a: &a [*a]", "within what it stands for"),
    "merged keys of merged keys": (
        "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 30)),
        "more than 20,000 parts|merge",
    ),
    "many parts": ("[" + "1," * 2 * MAX_NODES + "]", "more than 20,000 parts"),
    "a number without end": ("a: " + "9" * 200_000, "more than 100 characters"),
    "a number to the base 60": ("a: 1" + ":1" * 100_000, "more than 100 characters"),
    "a fraction to the base 60": ("a: 1" + ":1" * 100_000 + ".5", "more than 100 characters"),
    "a large text": ("a: " + "x" * MAX_BYTES, "more than 1,048,576 bytes"),
    "no number": ("!!int ''", "."),
    "no truth": ("!!bool perhaps", "."),
    "no time": ("!!timestamp soon", "."),
    "no such day": ("2026-02-31", "."),
    "an object": ("!!python/object/apply:os.getcwd []", "tag"),
    "an open quote": ('"', "."),
    "a key that is a list": ("? [a]\n: b", "."),
    "a key twice": ("a: 1\na: 2", "'a' is given twice"),
    "two documents": ("a: 1\n---\nb: 2", "."),
    "a zero": ("\x00", "."),
}
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "model": ("model.yaml", ModelFile.load),
    "policy": ("policy.yaml", read_policy_file),
    "lock": ("dvc.lock", lambda path: drop_spoiled(path.parent)),
    "mlmodel": (FILE, lambda path: read_mlmodel(path.parent, "version 1")),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_refused(name: str, tmp_path: Path) -> None:
    text, told = HOSTILE[name]
    (tmp_path / "file").write_text(text)
    with pytest.raises(DocumentError, match=told):
        read_yaml(tmp_path / "file")


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_of_yaml_refuses_it_as_its_own_file(reader: str, tmp_path: Path) -> None:
    file, read = READERS[reader]
    for name in ("brackets in lines", "aliases of aliases", "a number without end", "no truth", "two documents"):
        (tmp_path / file).write_text(HOSTILE[name][0])
        with pytest.raises(SlipwayError) as refused:
            read(tmp_path / file)
        assert refused.value.exit_code == 2, name
        assert len(str(refused.value)) < 5000, name


def test_no_other_module_reads_yaml_by_itself() -> None:
    found = {
        str(path.relative_to(ROOT))
        for part in ("app", "loadtests", "pipelines", "slipway")
        for path in (ROOT / part).rglob("*.py")
        if any(words in path.read_text() for words in ("yaml.load", "yaml.safe_load", "yaml.unsafe", "YAML("))
    }
    assert found == set()


def test_the_command_line_ends_with_2(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("[" * 100_000)
    command = [sys.executable, "-m", "pipelines.cli", "policy", "apply", str(tmp_path / "policy.yaml")]
    environ = {"SLIPWAY_HOME": str(tmp_path / "home"), "SLIPWAY_TOKEN": "x", "PATH": ""}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "nested more than 64 deep" in done.stderr) == (2, True), done.stderr


def test_what_people_write_is_read() -> None:
    text = "a: &a {b: 1, c: [x, 2.5, 1_000, 0x10, no, ~, 2026-11-28]}\nd: *a\n"
    read = parse_yaml(text)
    assert read["d"] == read["a"]
    assert read["a"]["c"][:5] == ["x", 2.5, 1000, 16, False]
    assert parse_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert parse_yaml("") is None


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"", b"\xff", b"{", b'"\\ud800"'])
def test_json_that_is_none_or_too_deep_is_refused(content: bytes) -> None:
    with pytest.raises(DocumentError):
        parse_json(content)
    with pytest.raises(DocumentError, match="more than 3 bytes"):
        parse_json(b"1234", most_bytes=3)


def test_json_is_read() -> None:
    assert parse_json(b'{"a": [1, 2.5, null, "x"]}') == {"a": [1, 2.5, None, "x"]}
    assert parse_json('"x"') == "x"
