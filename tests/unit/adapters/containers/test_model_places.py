"""What stands for models in names, and that nothing of a model moves when others come and go."""

import re

import pytest

from pipelines.adapters.containers.model_places import key_of, left_models, places_of
from pipelines.errors import UsageError

LONGEST = "a" * 128


@pytest.mark.parametrize("model", ["churn", "churn-2", "eighteen-letters-1", "0"])
def test_a_name_that_can_be_part_of_a_services_name_stands_for_itself(model: str) -> None:
    assert key_of(model) == model


@pytest.mark.parametrize("model", ["Churn", "churn.2", "churn_2", "nineteen-letters-12", "a--b", LONGEST, "A.-_9"])
def test_any_other_name_is_told_apart_by_a_hash(model: str) -> None:
    key = key_of(model)
    assert re.fullmatch("[a-z0-9]([a-z0-9-]{0,16}[a-z0-9])?", key)
    assert key != key_of(model + "x")
    assert key == key_of(model)


def test_names_that_read_alike_have_keys_of_their_own() -> None:
    alike = ["churn", "Churn", "churn.", "CHURN", "churn-2", "churn.2", "churn_2"]
    assert len({key_of(name) for name in alike}) == len(alike)


def test_a_model_keeps_its_number_whatever_other_models_come_and_go() -> None:
    kept: dict[str, dict[str, object]] = {}
    for models in (["b"], ["a", "b"], ["a", "b", "c"], ["a", "c"], ["a", "c", "d"], ["c"]):
        before = {name: place for name, place in kept.items() if name in models}
        kept = places_of(models, kept, {})
        assert {name: kept[name] for name in before} == before
        assert len({place["number"] for place in kept.values()}) == len(models)
    assert kept == {"c": {"environments": {}, "key": "c", "number": 3}}


def test_a_number_that_is_free_again_is_given_again() -> None:
    kept = places_of(["a", "b"], {}, {})
    assert places_of(["b", "c"], kept, {})["c"]["number"] == kept["a"]["number"]


def test_the_size_that_was_chosen_for_a_model_is_its_own() -> None:
    chosen = {"a": {"production": {"replicas": 3}}, "gone": {"staging": {"replicas": 2}}}
    assert places_of(["a", "b"], {}, chosen) == {
        "a": {"environments": {"production": {"replicas": 3}}, "key": "a", "number": 1},
        "b": {"environments": {}, "key": "b", "number": 2},
    }


def test_there_is_room_for_as_many_models_as_there_are_load_ports() -> None:
    models = [f"m{number}" for number in range(50)]
    assert len(places_of(models[:49], {}, {})) == 49
    with pytest.raises(UsageError, match="at most 49 models beside the default one, not 50"):
        places_of(models, {}, {})


def test_a_model_whose_project_was_lost_keeps_its_services_until_somebody_removes_it() -> None:
    kept = places_of(["second", "third", "fourth"], {}, {})
    left = left_models(kept, ["second"], ["third"])
    assert left == ["fourth"]
    assert places_of(["second", *left], kept, {})["fourth"] == kept["fourth"]
