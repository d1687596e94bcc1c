"""Which origin a hash, a commit or a run means by its first digits."""

import pytest

from pipelines.domain.lineage import Origin, OriginKind, meant, origins_of
from pipelines.errors import UsageError

COMMIT = Origin(OriginKind.GIT_COMMIT, "abcdef0" + "1" * 33)
OTHER_COMMIT = Origin(OriginKind.GIT_COMMIT, "abcdef0" + "2" * 33)
TRAIN = Origin(OriginKind.TRAINING_DATA, "sha256:" + "12345678" * 8)
JUDGED = Origin(OriginKind.EVALUATION_SET, TRAIN.value)
IMAGE = Origin(OriginKind.IMAGE, "registry:5000/slipway/release@sha256:" + "fedcba98" * 8)
KNOWN = [COMMIT, OTHER_COMMIT, TRAIN, IMAGE]


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        (COMMIT.value, COMMIT),
        (COMMIT.value[:8], COMMIT),
        (COMMIT.value[:8].upper(), COMMIT),
        (f" {COMMIT.value} ", COMMIT),
        ("1234567", TRAIN),
        ("sha256:1234567", TRAIN),
        (TRAIN.value, TRAIN),
        ("fedcba9", IMAGE),
        (IMAGE.value, IMAGE),
        ("another/name@sha256:fedcba9", IMAGE),
    ],
)
def test_an_origin_is_meant_by_its_first_seven_digits_or_more(text: str, origin: Origin) -> None:
    assert meant(text, KNOWN) == [origin]


def test_one_value_of_several_kinds_is_not_ambiguous() -> None:
    assert meant("1234567", [TRAIN, JUDGED, TRAIN]) == [JUDGED, TRAIN]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("abcdef0", f"may mean git commit {COMMIT.value}, git commit {OTHER_COMMIT.value}"),
        ("abcdef01", None),
        ("abcdef03", "no version that was measured here comes of 'abcdef03'"),
        ("123456", "at least 7 digits"),
        ("sha256:", "at least 7 digits"),
        ("", "at least 7 digits"),
        ("main-branch", "at least 7 digits"),
        ("f" * 65, "at least 7 digits"),
        ("../../etc/passwd", "at least 7 digits"),
        ("34567812", "no version that was measured here"),
    ],
)
def test_what_means_nothing_or_several_is_refused(text: str, said: str | None) -> None:
    if said is None:
        assert meant(text, KNOWN) == [COMMIT]
        return
    with pytest.raises(UsageError, match=said):
        meant(text, KNOWN)


def test_many_candidates_are_named_up_to_ten() -> None:
    many = [Origin(OriginKind.RUN, f"aaaaaaa{number:025x}") for number in range(25)]
    with pytest.raises(UsageError, match=r"run a{7}0{23}09 and 15 more"):
        meant("aaaaaaa", many)


def test_what_a_version_does_not_say_is_no_origin() -> None:
    provenance = {"run_id": None, "git_commit": None, "datasets": {"train": None, "evaluation": "sha256:e"}}
    found = origins_of({**provenance, "dependencies": "sha256:d"})

    assert [(each.kind, each.value) for each in found] == [
        (OriginKind.EVALUATION_SET, "sha256:e"),
        (OriginKind.DEPENDENCIES, "sha256:d"),
    ]
