import pytest

from pipelines.domain.names import checked_name, checked_version
from pipelines.errors import UsageError


@pytest.mark.parametrize("name", ["a", "churn-model", "v1.2_b", "A" * 128, "0"])
def test_plain_names_are_taken(name: str) -> None:
    assert checked_name(name, what="model") == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../../x",
        "a..b",
        "a/b",
        "a;rm",
        "a b",
        "a\n",
        "\na",
        "a\x00",
        "x" * 10_000,
        "A" * 129,
        "\u202eabc",
        "m\u00f6dell",
        ".hidden",
        "-flag",
        "end.",
        "'quoted'",
        "<script>",
    ],
)
def test_names_that_could_mean_something_else_are_refused_and_shown_short(name: str) -> None:
    with pytest.raises(UsageError) as refused:
        checked_name(name, what="model")

    assert refused.value.message.startswith("model ")
    assert len(refused.value.message) < 200
    assert "\n" not in refused.value.message
    assert "\u202e" not in refused.value.message


@pytest.mark.parametrize("version", ["1", "6", "999999999"])
def test_registry_versions_are_taken(version: str) -> None:
    assert checked_version(version) == version


@pytest.mark.parametrize(
    "version", ["", "0", "01", "-1", "1.0", "v1", "latest", "1\n", " 1", "1" * 10, "\u0661", "\u00b2"]
)
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(UsageError):
        checked_version(version)
