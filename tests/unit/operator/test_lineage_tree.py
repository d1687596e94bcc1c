"""Lineage as a tree for a terminal."""

from typing import Any

from pipelines.operator.lineage import lineage_tree

VERSION: dict[str, Any] = {
    "model": "toy",
    "version": "2",
    "bundle_digest": "sha256:bundle",
    "pinned_at": "2026-01-01",
    "origins": [
        {"kind": "git commit", "value": "c0ffee"},
        {"kind": "run", "value": "[red]r"},
        {"kind": "set that judged it", "value": "sha256:h"},
    ],
    "is_traced": True,
}
EVIDENCE = {
    "evaluation_id": "e-1", "verdict": "passed", "state": "done", "ended_at": None,
    "report_digest": "sha256:r", "evalset_digest": "sha256:s", "policy_digest": "sha256:p", "gates_digest": None,
    "evalsets": {"hard_cases": "sha256:h"},
}  # fmt: skip
DECISION = {
    "promotion_id": "p-1",
    "person": "bob",
    "approved": True,
    "reason": "",
    "at": "t",
    "report_digest": "sha256:r",
}
RELEASE = {
    "id": "r-1", "kind": "promotion", "change_id": "p-1", "environment": "production", "state": "serving",
    "serving_at": "2026-01-02", "image": "release@sha256:i", "app_image": None,
}  # fmt: skip


def test_a_version_is_drawn_with_both_ways_and_nothing_is_markup() -> None:
    history = {"evidence": [EVIDENCE], "decisions": [DECISION], "releases": [RELEASE]}
    lines = lineage_tree({"meant": [], "versions": [VERSION], "more": False, "history": history}).splitlines()

    assert [line.strip("│├└─ ") for line in lines] == [
        "toy v2",
        "comes of",
        "git commit: c0ffee",
        "run: [red]r",
        "evidence",
        "e-1 passed",
        "report: sha256:r",
        "evaluation set: sha256:s",
        "policy: sha256:p",
        "evaluation set hard_cases: sha256:h",
        "decisions",
        "p-1 approved by bob t",
        "report: sha256:r",
        "releases",
        "r-1 promotion of p-1 in production: serving 2026-01-02",
        "image: release@sha256:i",
    ]


def test_a_version_without_a_history_or_a_trace_says_so() -> None:
    nothing: dict[str, Any] = {"evidence": [], "decisions": [], "releases": []}
    version = {**VERSION, "is_traced": False}
    drawn = lineage_tree({"meant": [], "versions": [version], "more": False, "history": nothing})

    assert drawn.count("none") == 3
    assert "its bundle was removed before that was kept" in drawn


def test_what_came_of_a_commit_is_drawn() -> None:
    meant = [{"kind": "git commit", "value": "c0ffee"}]
    drawn = lineage_tree({"meant": meant, "versions": [VERSION], "more": True, "history": None}).splitlines()

    assert drawn[0] == "git commit c0ffee"
    assert "toy v2 sha256:bundle 2026-01-01 (git commit)" in drawn[1]
    assert "older ones are not shown" in drawn[2]


def test_of_each_version_it_is_drawn_what_a_set_is_to_it() -> None:
    brought = {**VERSION, "version": "3", "origins": [{"kind": "evaluation set", "value": "sha256:h"}]}
    meant = [{"kind": kind, "value": "sha256:h"} for kind in ("evaluation set", "set that judged it")]
    drawn = lineage_tree({"meant": meant, "versions": [VERSION, brought], "more": False, "history": None}).splitlines()

    assert drawn[0] == "evaluation set, set that judged it sha256:h"
    assert drawn[1].endswith("toy v2 sha256:bundle 2026-01-01 (set that judged it)")
    assert drawn[2].endswith("toy v3 sha256:bundle 2026-01-01 (evaluation set)")
