"""Draws lineage for a terminal, from what the API answers."""

from typing import Any

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from pipelines.domain.lineage import OriginKind


def lineage_tree(body: dict[str, Any]) -> str:
    """Return a version as a tree of what it comes of and what came of it, or the versions that something led to."""
    if body["history"] is not None:
        return _drawn(_version_tree(body["versions"][0], body["history"]))
    kinds = ", ".join(origin["kind"] for origin in body["meant"])
    root = Tree(Text(f"{kinds} {body['meant'][0]['value']}"))
    for version in body["versions"]:
        name, related = f"{version['model']} v{version['version']}", _related(version, body["meant"])
        root.add(_line(name, version["bundle_digest"], version["pinned_at"], f"({related})"))
    if body["more"]:
        root.add(_line("older ones are not shown"))
    return _drawn(root)


def _related(version: dict[str, Any], meant: list[dict[str, Any]]) -> str:
    """Say what of a version something is."""
    return ", ".join(origin["kind"] for origin in version["origins"] if origin in meant)


def _version_tree(version: dict[str, Any], history: dict[str, Any]) -> Tree:
    root = Tree(Text(f"{version['model']} v{version['version']}"))
    origins = root.add(_line("comes of"))
    # What judged it stands with its evidence.
    for origin in (each for each in version["origins"] if each["kind"] != OriginKind.JUDGED_BY):
        origins.add(_line(f"{origin['kind']}:", origin["value"]))
    if not version["is_traced"]:
        origins.add(_line("its bundle was removed before that was kept: run, data and commit are not known"))
    evidence = root.add(_line("evidence"))
    for each in history["evidence"]:
        node = evidence.add(_line(each["evaluation_id"], each["verdict"] or each["state"], each["ended_at"]))
        for name, what in (
            ("report", "report_digest"),
            ("evaluation set", "evalset_digest"),
            ("policy", "policy_digest"),
            ("gates", "gates_digest"),
        ):
            if each[what]:
                node.add(_line(f"{name}:", each[what]))
        for name, digest in (each["evalsets"] or {}).items():
            node.add(_line(f"evaluation set {name}:", digest))
    decisions = root.add(_line("decisions"))
    for each in history["decisions"]:
        verb = "approved" if each["approved"] else "rejected"
        told = f"{each['promotion_id']} {verb} by {each['person']}" + (f": {each['reason']}" if each["reason"] else "")
        decisions.add(_line(told, each["at"])).add(_line("report:", each["report_digest"]))
    releases = root.add(_line("releases"))
    for each in history["releases"]:
        told = f"{each['id']} {each['kind']} of {each['change_id']} in {each['environment']}: {each['state']}"
        node = releases.add(_line(told, each["serving_at"]))
        for name, what in (("image", "image"), ("app image", "app_image")):
            if each[what]:
                node.add(_line(f"{name}:", each[what]))
    for branch in (evidence, decisions, releases):
        if not branch.children:
            branch.add(_line("none"))
    return root


def _line(*words: str | None) -> Text:
    # As text, nothing in it is markup.
    return Text(" ".join(word for word in words if word))


def _drawn(tree: Tree) -> str:
    console = Console(width=160, highlight=False)
    with console.capture() as captured:
        console.print(tree)
    return captured.get().rstrip()
