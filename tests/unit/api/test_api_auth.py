import json
from pathlib import Path

import pytest

from pipelines.api.auth import person_of
from pipelines.errors import NotAllowed, UsageError
from pipelines.settings.tokens import PEOPLE, make_tokens, read_tokens

TOKENS = {"alice": "token-of-alice", "bob": "token-of-bob"}


def test_tokens_are_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    make_tokens(path)
    first = read_tokens(path)
    make_tokens(path)

    assert read_tokens(path) == first
    assert set(first) == set(PEOPLE)
    assert len(set(first.values())) == len(PEOPLE)
    assert all(len(token) >= 40 for token in first.values())
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_two_homes_share_no_token(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_tokens(tmp_path / name)

    assert not set(read_tokens(tmp_path / "one").values()) & set(read_tokens(tmp_path / "two").values())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_tokens_that_others_can_read_are_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "tokens.json"
    make_tokens(path)
    path.chmod(mode)

    with pytest.raises(UsageError, match="read by others"):
        read_tokens(path)


def test_missing_tokens_are_refused_with_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        read_tokens(tmp_path / "tokens.json")

    assert "make up" in refused.value.next


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"alice": ""}', '{"alice": null}', '{"alice": 1}'])
def test_a_file_that_does_not_give_each_person_a_token_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.json"
    path.touch(0o600)
    path.write_text(content)

    with pytest.raises(UsageError, match="each person a token"):
        read_tokens(path)


@pytest.mark.parametrize(
    "header", ["Bearer token-of-bob", "bearer token-of-bob", "BEARER token-of-bob", "Bearer  token-of-bob "]
)
def test_a_token_names_its_person(header: str) -> None:
    assert person_of(header, TOKENS) == "bob"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "token-of-bob",
        "Basic token-of-bob",
        "Bearer token-of-bo",
        "Bearer token-of-bobb",
        "Bearer Token-of-bob",
        "Bearer bob",
        "Bearer token-of-bob, token-of-alice",
        "Bearer \u00e9\u00ff",
        "Bearer " + "x" * 100_000,
    ],
)
def test_everything_else_is_nobody_and_the_refusal_does_not_repeat_it(header: str | None) -> None:
    with pytest.raises(NotAllowed) as refused:
        person_of(header, TOKENS)

    told = json.dumps(refused.value.as_dict())
    assert "token-of" not in told
    assert len(told) < 500
