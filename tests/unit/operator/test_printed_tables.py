"""What the verbs show as tables of what the API answers."""

from typing import Any

from pipelines.operator.tables import versions_table


def version(number: str, *aliases: str, **tags: str) -> dict[str, Any]:
    named = {name.replace("_", "."): value for name, value in tags.items()}
    return {"version": number, "run_id": "a" * 32, "tags": named, "aliases": list(aliases), "cut": False}


def test_versions_stand_where_their_aliases_are_and_how_they_were_measured() -> None:
    found = [version("3"), version("2", "production", slipway_verdict="passed"), version("1", lifecycle="Archived")]
    table = versions_table({"model": "toy", "versions": found, "more": True}).splitlines()
    assert [line.split()[:3] for line in table[1:4]] == [
        ["v3", "not", "measured"],
        ["v2", "production", "passed"],
        ["v1", "Archived", "not"],
    ]
    assert table[4:] == ["older ones are not shown: slipway versions --before 1"]


def test_without_a_version_the_table_says_how_to_make_one() -> None:
    told = versions_table({"model": "toy", "versions": [], "more": False})
    assert told == 'no version of toy is registered yet; next: "make candidate"'
